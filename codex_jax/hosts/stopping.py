"""A signal to any one process stops all of them after the same step.

Each step is accompanied by the signals that came to each device's process before it, gathered on the devices; they are
read when the next step is under way, as the loss is. So every process reads the same for the same step, none waits for
it, and a signal is answered one step later than in a run of one process. Agreed on over the network instead, a process
could be a step ahead when it hears of it.
"""

import signal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from codex_jax.hosts.team import Team
from codex_jax.signals import StopRequest


_PROCESSES = 1 << 24  # a signal and a process in one number, signal * _PROCESSES + process; a request is below it


class Stopping:
    """Asks, at each step, whether a signal came to any process, or the first one asks for something."""

    def __init__(self, team: Team, mesh: Mesh, stop: StopRequest) -> None:
        self._team, self._stop = team, stop
        self._split = NamedSharding(mesh, P(mesh.axis_names))
        self._gather = jax.jit(lambda flags_D: flags_D, out_shardings=NamedSharding(mesh, P()))
        self._pending: jax.Array | None = None

    def after_step(self, request: int) -> tuple[bool, int]:
        """Return whether to stop after the step that was just dispatched, and what the first process asks for.

        `request` is a small number, of this process; that of the first counts. All processes get the same answer.
        Raises the error of another process that failed.
        """
        if self._team.count == 1:
            return bool(self._stop.signal), request
        self._team.raise_if_failed()
        pending, self._pending = self._pending, self._send(request if self._team.is_first else 0)
        asked = int(np.max(pending)) if pending is not None else 0
        if asked < _PROCESSES:
            return False, asked
        number, process = divmod(asked, _PROCESSES)
        self._stop.signal = f"{signal.Signals(number).name} to process {process}"
        return True, 0

    def _send(self, request: int) -> jax.Array:
        name = self._stop.signal
        flag = signal.Signals[name] * _PROCESSES + self._team.index if name else request
        own_D = np.full(jax.local_device_count(), flag, np.int32)
        return self._gather(jax.make_array_from_process_local_data(self._split, own_D))
