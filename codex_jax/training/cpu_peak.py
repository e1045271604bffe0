"""What a CPU can do at most, for want of a data sheet: the fastest matrix product that was ever seen on it.

Whatever else the machine does spoils a measurement, and always downwards. So the highest figure is kept in the cache,
for each CPU, number of cores, type of the operands and version of jax.
"""

import contextlib
import itertools
import json
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from codex_jax import atomic, cache, digest
from codex_jax.errors import TrainingStopped


# 2 x 768^3 = 0.9 GFLOP: a few milliseconds, so that some fit between two turns of whatever else runs.
SIZE = 768
MEASURE_SECS = 0.3


def flops(dtype: jnp.dtype) -> float:
    """Measure for a moment and return the highest FLOP/s seen so far; other work at the same time lowers it."""
    return keep_highest(_file(dtype), _measured(dtype))


def keep_highest(path: Path, measured: float) -> float:
    """Return the higher of a figure and the one in a file, which then holds it."""
    highest = max(measured, _read(path))
    if highest == measured:
        # Only a figure to compare with: a full disk, or another process that writes it now, is no reason to stop.
        with contextlib.suppress(TrainingStopped), atomic.replacing(path) as file:
            file.write(json.dumps({"flops_per_sec": measured}).encode())
    return highest


def _read(path: Path) -> float:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_bytes())["flops_per_sec"])
    return 0.0


def _file(dtype: jnp.dtype) -> Path:
    of = {"cpu": _name(), "cores": len(os.sched_getaffinity(0)), "dtype": dtype.name, "jax": jax.__version__}
    return cache.directory("cpu_peak") / f"{digest.of_json(of)[:16]}.json"


def _name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    return platform.processor()


def _measured(dtype: jnp.dtype) -> float:
    matrix = jnp.ones((SIZE, SIZE), dtype)
    multiply = jax.jit(lambda left, right: jnp.dot(left, right, preferred_element_type=jnp.float32))
    multiply(matrix, matrix).block_until_ready()
    times = [time.perf_counter()]
    while times[-1] - times[0] < MEASURE_SECS:
        multiply(matrix, matrix).block_until_ready()
        times.append(time.perf_counter())
    return 2.0 * SIZE**3 / min(after - before for before, after in itertools.pairwise(times))
