"""Lines of a file that comes in chunks: each as soon as it is complete, and of one that is too long only its head."""

import re
from collections.abc import Iterator
from typing import NamedTuple


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A line is cut so far behind its limit that neither its end nor a mark can hide that it is too long.
_SLACK_BYTES = 8


class Line(NamedTuple):
    """A line with its end, where it has one."""

    offset: int
    """of its first byte in the file"""
    number: int
    """from 1"""
    content: bytes


def lines(chunks: Iterator[bytes], end: re.Pattern[bytes], limit: int) -> Iterator[Line]:
    """Yield the lines that `end` parts, without the mark at the beginning of the file.

    Those of more than `limit` bytes are cut off soon behind it: no more of a line is held.
    """
    held, size, offset, number = bytearray(), 0, 0, 1
    for chunk in _with_whole_ends(chunks):
        at = 0
        while at < len(chunk):
            found = end.search(chunk, at)
            stop = found.end() if found else len(chunk)
            size += stop - at
            held += chunk[at : min(stop, at + max(0, limit + _SLACK_BYTES - len(held)))]
            at = stop
            if found:
                yield _line(offset, number, bytes(held))
                held, size, offset, number = bytearray(), 0, offset + size, number + 1
    if held:
        yield _line(offset, number, bytes(held))


def _line(offset: int, number: int, content: bytes) -> Line:
    if number == 1 and content.startswith(BYTE_ORDER_MARK):
        return Line(offset + len(BYTE_ORDER_MARK), number, content[len(BYTE_ORDER_MARK) :])
    return Line(offset, number, content)


def _with_whole_ends(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, in chunks that never end between the two of a line end."""
    held = b""
    for chunk in chunks:
        chunk = held + chunk
        held = chunk[-1:] if chunk.endswith(b"\r") else b""
        yield chunk[: len(chunk) - len(held)]
    yield held
