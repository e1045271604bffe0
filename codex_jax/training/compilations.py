"""How often this process has compiled, and how long that took: one that compiles again in mid-run shows."""

import dataclasses
import functools
from typing import Any

import jax


# Of each program; one that comes from the cache on the disk is counted, and takes a moment.
_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class Compilations:
    """Since `counted` was called first."""

    count: int = 0
    secs: float = 0.0

    def take(self, event: str, duration_secs: float, **_: Any) -> None:
        """Take an event of jax.monitoring, of which there are others."""
        if event == _EVENT:
            self.count += 1
            self.secs += duration_secs


@functools.cache
def counted() -> Compilations:
    """Return the count of this process, which begins at the first call."""
    made = Compilations()
    jax.monitoring.register_event_duration_secs_listener(made.take)
    return made
