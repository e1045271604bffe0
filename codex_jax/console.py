"""What is said to the person at the terminal; that it cannot be said never ends a run."""

import os
import sys
from collections.abc import Iterable


def prepare() -> None:
    """Let no character of a sample or a path be too much for the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


_talks = True


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
    """Print to standard error what must not be missed."""
    print(f"codex_jax: {text}", file=sys.stderr, flush=True)
