"""Every failure becomes one message and its exit code, for all commands alike."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from codex_jax import atomic, console
from codex_jax.errors import CodexError, TrainingStopped


def guarded(work: Callable[[], None], *, debug: bool) -> int:
    """Run `work` and return the exit code (see `errors`); with `debug` a failure's traceback comes before its message.

    What is no failure a user can meet is a bug, and raised.
    """
    try:
        work()
    except Exception as error:
        failure = readable(error)
        if failure is None:
            raise
        return _report(failure, debug)
    return 0


def readable(error: Exception) -> CodexError | None:
    """Return an error as one whose message is for the user; None for a bug."""
    if isinstance(error, CodexError):
        return error
    # The last net for a file system that fails where nobody expected it; an error about no file is a bug.
    if isinstance(error, OSError) and error.filename:
        return atomic.unusable(Path(os.fsdecode(error.filename)), error)
    if isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED"):
        return _out_of_memory(error)
    return None


_left_behind = False
# What hangs may be the disk that the last words are to be written to.
_LAST_WORDS_SECS = 5.0


def say_last(tell: Callable[[], None]) -> None:
    """Write down why the process ends, if that can be done within a few seconds."""
    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(_LAST_WORDS_SECS)


def leave_behind() -> None:
    """Note that a thread of this process can be neither stopped nor waited for, as an exit would."""
    global _left_behind
    _left_behind = True


def end(code: int) -> NoReturn:
    """End the command; call it last. Python's own exit waits for every thread, one that was left behind as well."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # Python gives up its handlers on the way out: one more would be the code
    if _left_behind:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        at_once(code)
    sys.exit(code)


def at_once(code: int) -> NoReturn:
    """End this process without waiting for anything, and the processes that work for it: any thread may call it."""
    kill_workers()
    os._exit(code)


def kill_workers() -> None:
    """End the processes that work for this one, whatever they are at: one that is stopped hears no other signal."""
    for child in multiprocessing.active_children():
        child.kill()


def _report(error: CodexError, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    console.fail("\n".join([str(error), *getattr(error, "__notes__", [])]))
    return error.exit_code


def _out_of_memory(error: RuntimeError) -> TrainingStopped:
    return TrainingStopped(
        f"the device has not enough memory: {str(error).splitlines()[0][:200]}. Lower train.microbatch_size or "
        "train.loss_chunk, set model.remat=true, or share the parameters with parallel.fsdp; the last checkpoint stands"
    )
