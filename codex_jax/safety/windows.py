"""Examines a file of any size in windows, and finds in it what examining it as a whole would find.

A window is examined with MARGIN more on both sides, and what begins in the window itself counts. So everything of at
most MARGIN bytes, with what has to stand around it, is found as in the whole. The longest thing a rule of the package
looks for is a private key, of at most some 13 kB (RSA with 16,384 bits); what is longer than MARGIN is found in parts.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from codex_jax.safety.engine import Engine


WINDOW = 4 << 20
MARGIN = 64 << 10


class Place(NamedTuple):
    """A finding in a file."""

    line: int
    """from 1"""
    column: int
    """from 1, in characters"""
    rule: str
    action: str
    severity: str


def scan(file: BinaryIO, engine: Engine, stage: str, window: int = WINDOW, margin: int = MARGIN) -> Iterator[Place]:
    """Yield what is found, in order. A byte that is no UTF-8 counts as one character."""
    line, column = 1, 1
    before, ahead = b"", file.read(window + margin)
    while ahead:
        size = _boundary(ahead, window)
        begin, end = len(_text(before)), len(_text(before)) + len(_text(ahead[:size]))
        text = _text(before + ahead)
        done = begin
        for match in engine.examine(text, stage).matches:
            if begin <= match.start < end:
                line, column = _moved(line, column, text[done : match.start])
                done = match.start
                yield Place(line, column, match.rule, match.action, match.severity)
        line, column = _moved(line, column, text[done:end])
        seen = before + ahead[:size]
        before, ahead = seen[_boundary(seen, len(seen) - margin) :], ahead[size:]
        ahead += file.read(window + margin - len(ahead))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _boundary(data: bytes, at: int) -> int:
    """Return the first place from `at` on that is not within a character, the end of the data at most."""
    at = max(at, 0)
    for place in range(at, min(at + 4, len(data))):
        if data[place] & 0xC0 != 0x80:
            return place
    return min(at, len(data)) if at + 4 <= len(data) else len(data)


def _moved(line: int, column: int, text: str) -> tuple[int, int]:
    """Return line and column behind a text."""
    lines = text.count("\n")
    return line + lines, len(text) - text.rfind("\n") if lines else column + len(text)
