"""Spans of a text, and what is left of them beside others; near linear in their number."""

import bisect
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Something that a rule found."""

    start: int
    end: int
    rule: int
    """its index in the engine"""
    action: str


class Cover:
    """The part of a text that some spans cover."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def touches(self, start: int, end: int) -> bool:
        """Say whether it covers a part of a span."""
        index = bisect.bisect_right(self._ends, start)
        return index < len(self._starts) and self._starts[index] < end

    def outside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a span that it does not cover."""
        index = bisect.bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            if start < self._starts[index]:
                yield start, self._starts[index]
            start = self._ends[index]
            index += 1
        if start < end:
            yield start, end


def in_characters(content: bytes, spans: list[Span]) -> list[Span]:
    """Return spans of bytes of a UTF-8 text as spans of its characters."""
    characters, done, count = {}, 0, 0
    for place in sorted({place for span in spans for place in span[:2]}):
        count += len(content[done:place].decode("utf-8", "surrogatepass"))
        characters[place], done = count, place
    return [span._replace(start=characters[span.start], end=characters[span.end]) for span in spans]
