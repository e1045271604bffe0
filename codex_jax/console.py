"""What is said to the person at the terminal; that it cannot be said never ends a run."""

import logging
import os
import sys
from collections.abc import Iterable


def prepare() -> None:
    """Begin a command, and let no character of a sample or a path be too much for the terminal's encoding."""
    _warned.clear()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    # Else the first library that logs decides how all warnings look.
    logging.basicConfig(format="%(message)s", handlers=[_Logged()])


_talks = True
_warned: set[str] = set()
"""What this command has been told must not be missed."""


def be_quiet() -> None:
    """Say nothing more but warnings: another process of the run talks."""
    global _talks
    _talks = False


def say(text: str) -> None:
    """Print at once. When the reader is gone (`| head`) or the disk behind `> log` is full, nothing more is printed."""
    _write(text + "\n")


def say_pieces(pieces: Iterable[str]) -> None:
    """Print pieces of a text as they come, and a line end."""
    for piece in pieces:
        _write(piece)
    _write("\n")


def _write(text: str) -> None:
    if not _talks:
        return
    try:
        print(text, end="", flush=True)
    except OSError:
        # Onto the descriptor itself: Python flushes what is left in the buffer when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(text: str) -> None:
    """Print to standard error what must not be missed, once in a command however often it is met."""
    if text not in _warned:
        _warned.add(text)
        fail(text)


def fail(text: str) -> None:
    """Print to standard error why a command ends."""
    print(f"codex_jax: {text}", file=sys.stderr, flush=True)


class _Logged(logging.Handler):
    """Prints warnings that were logged: those of the package like all others, those of libraries by their names."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.name.startswith("codex_jax"):
            fail(text)
        else:
            print(f"{record.name}: {text}", file=sys.stderr, flush=True)
