"""Worker of sinks.py: training steps whose figures go to a ledger, and from there to sinks or to none."""

import contextlib
import dataclasses
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import model_step
import paired
import psutil

from codex_jax import config
from codex_jax.tracking import multi_writer, registry
from codex_jax.tracking.sink import Source
from codex_jax.tracking.writer import Writer


ON = {"none": (), "all": tuple(registry.BUILT_IN), "dead": ("mlflow", "wandb")}
TRAIN = ("loss", "token_accuracy", "grad_norm", "param_norm", "learning_rate", "tokens")
SPEED = ("tokens_per_sec", "tokens_per_sec_per_device", "mfu", "step_secs", "input_wait_secs", "device_wait_secs")


class Logged:
    """A call is so many steps, a row of either split every so many of them."""

    def __init__(self, settings: config.Config, writer: Writer, every: int, steps: int) -> None:
        self._step, self._writer, self._every, self._steps = model_step.Step(settings), writer, every, steps
        self._row = 0
        self._step()

    def __call__(self) -> None:
        for number in range(self._steps):
            self._step()
            if number % self._every == 0:
                self.log()

    def log(self) -> float:
        """Write one row of either split; return the seconds."""
        self._row += 1
        begin = time.perf_counter()
        self._writer.scalars(self._row, "train", {name: 0.1 * self._row for name in TRAIN})
        self._writer.scalars(self._row, "speed", {name: 0.1 * self._row for name in SPEED})
        return time.perf_counter() - begin


@contextlib.contextmanager
def opened(settings: config.Config, sinks: str) -> Iterator[Writer]:
    """Give a writer with these sinks; those of `dead` are dead."""
    tracking = settings.tracking
    with tempfile.TemporaryDirectory() as directory, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        if sinks == "dead":
            uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
            tracking = dataclasses.replace(tracking, mlflow=dataclasses.replace(tracking.mlflow, uri=uri))
        kinds = {name: registry.checked(name, tracking) for name in ON[sinks]}
        source = Source(Path(directory), "bench", {}, {}, tracking)
        with multi_writer.open_writer(source, kinds, resume_step=0) as writer:
            time.sleep(20 if kinds else 0)  # packages are imported, tables made
            if sinks == "dead":
                for child in psutil.Process().children(recursive=True):
                    child.send_signal(signal.SIGKILL)
            yield writer


def main(size: str, every: str, steps: str, sinks: str) -> None:
    """Prepare the steps and serve measurements of them."""
    settings = model_step.settings_of(size)
    with opened(settings, sinks) as writer:
        logged = Logged(settings, writer, int(every), int(steps))
        took = []
        for _ in range(500):
            took.append(1e6 * logged.log())
            time.sleep(0.005)
        about = {
            "jax": jax.__version__,
            "cpus": os.cpu_count(),
            "row_micros": round(statistics.median(took), 1),
            "row_micros_p99": round(statistics.quantiles(took, n=100)[-1], 1),
        }
        paired.serve(logged, about)


if __name__ == "__main__":
    main(*sys.argv[1:])
