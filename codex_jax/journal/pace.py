"""How fast a run is and where its time goes: the split `speed` of the ledger, which comparisons leave aside."""

import time
from collections.abc import Iterator

import jax

from codex_jax import config
from codex_jax.models import build
from codex_jax.training import compilations, flops, subtree
from codex_jax.training.program import Program


class Pace:
    """A clock over the steps since its last reading; what else a run does is left out of it."""

    def __init__(self, settings: config.Config, model: Program, start: int) -> None:
        """`start` is the step that training goes on from. On a CPU this measures its peak, so no step may run."""
        train, data = settings.train, settings.data
        self._start = self._since_step = start
        self._num_steps = train.num_steps
        self._tokens = train.global_batch_size * data.sequence_length
        self._flops = flops.per_token(
            model.definition.shape,
            model.definition.num_parameters,
            subtree.num_trained(train, model.target.parameters),
            data.sequence_length,
            {"masked": train.masked_fraction, "classes": 0.0}.get(data.objective, 1.0),
        )
        self._peak = flops.peak(build.compute_dtype(settings.model.compute_dtype))
        self._compiled = compilations.counted()
        self._began = self._since = time.perf_counter()
        self._waited = self._blocked = 0.0

    def waited(self, secs: float) -> None:
        """Count time in which no batch had come."""
        self._waited += secs

    def blocked(self, secs: float) -> None:
        """Count time in which the host had nothing to do but wait for a step to end."""
        self._blocked += secs

    def leave_out(self, secs: float) -> None:
        """Leave out time that was not spent on training."""
        self._since += secs
        self._began += secs

    def secs_left(self, step: int) -> float:
        """Return how long the rest takes at the mean speed of this process."""
        return (self._num_steps - step) * (time.perf_counter() - self._began) / (step - self._start)

    def read(self, step: int) -> dict[str, float]:
        """Return the figures of the steps since the last reading, and begin the next ones."""
        now, num_steps = time.perf_counter(), step - self._since_step
        secs = max(now - self._since, 1e-9)
        tokens_per_sec = num_steps * self._tokens / secs
        found = {
            "tokens_per_sec": tokens_per_sec,
            "tokens_per_sec_per_device": tokens_per_sec / jax.device_count(),
            **({"mfu": tokens_per_sec * self._flops / self._peak} if self._peak else {}),
            "step_secs": secs / num_steps,
            "input_wait_secs": self._waited / num_steps,
            "device_wait_secs": self._blocked / num_steps,
            "host_secs": max(secs - self._waited - self._blocked, 0.0) / num_steps,
            "compiles": self._compiled.count,
            "compile_secs": self._compiled.secs,
            **dict(_memory()),
        }
        self._since, self._since_step, self._waited, self._blocked = now, step, 0.0, 0.0
        return found


def _memory() -> Iterator[tuple[str, int]]:
    """Yield what the devices of this process hold and have held at most, where they say so; a CPU does not."""
    for index, device in enumerate(jax.local_devices()):
        stats = device.memory_stats() or {}
        for name, ours in (("bytes_in_use", "bytes_in_use"), ("peak_bytes_in_use", "peak_bytes")):
            if name in stats:
                yield f"device{index}_{ours}", int(stats[name])
