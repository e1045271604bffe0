"""How a process that does a part of the work behaves: one core, deaf to signals, never without its parent."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import SpawnContext, SpawnProcess

import psutil


class _Process(SpawnProcess):
    """One that `begin` makes deaf to SIGTERM."""

    def terminate(self) -> None:
        """End it. Where one process is gone a pool ends the others so, and waits for them without a limit."""
        self.kill()


class Context(SpawnContext):
    """How processes are started for a pool."""

    Process = _Process


def begin() -> None:
    """Keep the tokenizer of one process among several to its own core, leave signals to the parent, and end with it.

    A terminal sends Ctrl-C to all of them, a cluster SIGTERM: what is in preparation must still arrive. That the parent
    was killed no queue would tell.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def states() -> str:
    """Say how the processes that work for this one are, to be put behind a sentence; empty without any."""
    found = []
    for child in multiprocessing.active_children():
        try:
            found.append(f"process {child.pid} is {psutil.Process(child.pid).status()}")
        except psutil.Error:
            found.append(f"process {child.pid} is gone")
    return "".join(f", {state}" for state in found)
