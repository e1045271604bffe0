"""How the processes of a run meet, before jax looks for devices, and how they part."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
from jax._src import clusters, distributed
from jaxlib import _jax

from codex_jax import config, console
from codex_jax.errors import ConfigError, TrainingStopped
from codex_jax.hosts import desk, service
from codex_jax.hosts.team import Team


CONNECT_SECS = 120  # all have met already


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process is among the others."""

    host: str
    port: int
    count: int
    index: int
    devices: tuple[int, ...] = ()
    """of this machine, that belong to this process; empty: all"""


@contextlib.contextmanager
def join(parallel: config.Parallel, between: Callable[[], None]) -> Iterator[Team]:
    """Wait for all processes of the run and yield the team; a failure in the block ends all of them.

    Call it before jax is asked for devices. `between` is called while waiting and may raise to stop. ConfigError when
    they do not meet within parallel.wait_secs, or there is no cluster to ask.
    """
    if not parallel.coordinator:
        yield Team()
        return
    place = _place(parallel)
    if place.index:
        console.say(
            f"process    {place.index} of {place.count}; process 0, at {place.host}:{place.port}, tells the rest"
        )
        links = desk.call(place.host, place.port, (place.index, place.count), parallel.wait_secs, between)
        console.be_quiet()
    else:
        console.say(f"process    0 of {place.count}, waiting for the others at port {place.port}")
        links = desk.wait_for_all(place.port, place.count, parallel.wait_secs, between)
    team = Team(place.index, place.count, links, silence_secs=parallel.wait_secs)
    try:
        with team.guard():
            client = _begin_jax(team, place)
            yield team
            team.leave()
            client.shutdown()  # a barrier; the service stays until all have hung up
            distributed.global_state.client = None
    finally:
        team.hang_up()


def _place(parallel: config.Parallel) -> Place:
    if parallel.coordinator != "auto":
        host, _, port = parallel.coordinator.rpartition(":")
        return Place(host=host.strip("[]"), port=int(port), count=parallel.num_processes, index=parallel.process_index)
    address, count, index, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(parallel.wait_secs)
    )
    if address is None or count is None or index is None:
        raise ConfigError(
            "parallel.coordinator=auto: jax sees no cluster (Slurm, Open MPI, Kubernetes, TPU) around this process; "
            "name parallel.coordinator=HOST:PORT, parallel.num_processes and parallel.process_index"
        )
    host, _, port = address.rpartition(":")
    return Place(host=host.strip("[]"), port=int(port), count=count, index=index, devices=tuple(devices or ()))


def _begin_jax(team: Team, place: Place) -> _jax.DistributedRuntimeClient:
    """Connect jax of all processes.

    jax.distributed.initialize would abort this process when one does not come, or is killed later, and would take
    SIGTERM for itself. This does what else it does.
    """
    if place.devices:
        for platform in ("cuda", "rocm"):
            jax.config.update(f"jax_{platform}_visible_devices", ",".join(map(str, place.devices)))
    port = team.decide(lambda: service.start(team.count))
    host = f"[{place.host}]" if ":" in place.host else place.host
    state = distributed.global_state
    state.process_id, state.num_processes, state.coordinator_address = team.index, team.count, f"{host}:{port}"
    client = _jax.get_distributed_runtime_client(
        state.coordinator_address,
        team.index,
        init_timeout=CONNECT_SECS,
        heartbeat_timeout=service.HEARTBEAT_SECS,
        shutdown_timeout=service.SHUTDOWN_SECS,
        shutdown_on_destruction=False,
        use_compression=True,
    )
    try:
        client.connect()
    except RuntimeError as error:
        raise TrainingStopped(f"jax cannot reach its service at {state.coordinator_address}: {error}") from error
    state.client = client
    return client
