"""Looks at the machine every few seconds while a run is at work: rows of RUN/system.ndjson, and of the copies.

They depend on the time, so they are no part of the ledger, which two runs of one seed share. A row is

    {"run_id": "r1", "step": 20, "time": 1767225600.125, "metrics": {"cpu_percent": 71.3, ...}}

where `step` is the newest that was dispatched. A process that goes on with a run appends.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_jax.console import warn
from codex_jax.errors import CodexError
from codex_jax.tracking import calls, rows
from codex_jax.tracking.gpus import Gpus, Unread
from codex_jax.tracking.rows import AppendFile
from codex_jax.tracking.system import Machine
from codex_jax.tracking.writer import Writer


CLOSE_SECS = 5.0


def mend(workdir: Path) -> float:
    """Take back a last row that a crash tore, before anything reads the file; return the joules of the last whole one.

    AssetError for damage before the last line.
    """
    joules = 0.0
    rows.rewind(workdir / calls.SYSTEM, lambda row: True)
    for row in calls.machine(workdir):
        joules = row["metrics"].get("energy_joules") or joules
    return joules


class Sampler:
    """Reads the machine on a thread of its own while `during` lasts; that it fails ends no run."""

    def __init__(self, workdir: Path, *, run_id: str, every_secs: float) -> None:
        """Mend the file of the run, so make it before the writer; 0 `every_secs`: do nothing, now or later."""
        self.note = ""
        """why there are no figures of GPUs"""
        self.joules: float | None = None
        """energy of the GPUs since the run began, in all its processes, up to the newest row; None: not measured"""
        self._workdir, self._run_id, self._every_secs = workdir, run_id, every_secs
        self._before = 0.0
        self._stopping = threading.Event()
        self._gpus: Gpus | None = None
        if every_secs:
            self._before = mend(workdir)
            try:
                self._gpus = Gpus()
            except Unread as reason:
                self.note = str(reason)

    def status(self) -> dict[str, Any]:
        """Return what is measured, for the event of a start."""
        return {"every_secs": self._every_secs, "gpus": self._gpus.names if self._gpus else [], "note": self.note}

    @contextlib.contextmanager
    def during(self, writer: Writer, newest: Callable[[], int]) -> Iterator[None]:
        """Take rows, and one more at the end; `newest()` is the newest step that was dispatched."""
        if not self._every_secs:
            yield
            return
        # A daemon: a driver in trouble may not answer at all.
        name = "codex_jax system sampler"
        thread = threading.Thread(target=self._work, args=(writer, newest), name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(CLOSE_SECS)

    def _work(self, writer: Writer, newest: Callable[[], int]) -> None:
        try:
            machine = Machine(self._workdir)  # here: psutil remembers for each thread when it was asked last
            with contextlib.closing(AppendFile(self._workdir / calls.SYSTEM, rotate_bytes=0)) as file:
                while not self._stopping.wait(self._every_secs):
                    self._take(file, machine, writer, newest())
                self._take(file, machine, writer, newest())
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            warn(f"the machine is not looked at any more: {reason}. Training goes on")
            if not self._stopping.is_set():  # else the ledger may be closed
                with contextlib.suppress(CodexError):
                    writer.event("system.degraded", newest(), {"reason": reason})

    def _take(self, file: AppendFile, machine: Machine, writer: Writer, step: int) -> None:
        metrics = {**machine.read(), **(self._gpus.read() if self._gpus else {})}
        if "energy_joules" in metrics:
            metrics["energy_joules"] += self._before
            self.joules = metrics["energy_joules"]
        file.append({"run_id": self._run_id, "step": step, "time": round(time.time(), 3), "metrics": metrics})
        writer.beside(step, "system", metrics)
