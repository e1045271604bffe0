"""Where a run takes place, with whom, and what may end it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from codex_jax import config
from codex_jax.hosts.team import Team
from codex_jax.signals import StopRequest
from codex_jax.watchdog import Watchdog, Watched


class Site(NamedTuple):
    """The same from the first start of a process to its end, however often the run goes back."""

    workdir: Path
    team: Team
    """the processes of the run, most often one: the first decides, writes and talks"""
    mesh: Mesh
    stop: StopRequest
    watch: Watchdog

    @property
    def root(self) -> Path:
        """Where the checkpoints are."""
        return self.workdir / "checkpoints"

    def between(self) -> None:
        """Answer a signal, or the failure of another process, while there is nothing to save."""
        self.team.raise_if_failed()
        self.stop.raise_if_asked("before the first step, when there was nothing to save")


def limited(watch: Watchdog, train: config.Train, what: str, *, compiles: bool) -> AbstractContextManager[Watched]:
    """Return `watch` over a step or an evaluation: train.max_step_secs of it, ten times as long with a compilation."""
    if compiles:
        return watch.watch(what, train.max_step_secs * 10, "ten times train.max_step_secs")
    return watch.watch(what, train.max_step_secs, "train.max_step_secs")
