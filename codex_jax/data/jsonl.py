"""JSON Lines: one object a line.

A unit is a range of bytes; it owns the lines that begin in it. Lines end at a line feed and nowhere else: U+2028 and
its kin are ordinary characters of a JSON string.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from codex_jax import config
from codex_jax.data import chunks as pieces
from codex_jax.data import rows
from codex_jax.data.chunks import BYTE_ORDER_MARK
from codex_jax.data.documents import BadRow, Document, Record


# So many units make a window that it draws on many places of the corpus, however the files were sorted.
_UNITS_IN_WINDOW = 32
# Each unit is a seek and a search for its first line.
_LEAST_BYTES = 1024
_LINE_END = re.compile(rb"\n")


class JsonlSource:
    """Files of one JSON object a line."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    is_text = True

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of the range of a file that is read at a time."""
        return max(data.window_bytes // _UNITS_IN_WINDOW, _LEAST_BYTES)

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the lines that begin in the unit; a bad line is yielded as such."""
        step = self.unit_bytes(data)
        for offset, line in _lines(file, unit * step, min((unit + 1) * step, size), data.max_line_bytes):
            if line.strip():
                yield self.row(line, offset, data)

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        """Yield what parses each line that is not blank."""
        for offset, number, line in pieces.lines(chunks, _LINE_END, data.max_line_bytes):
            if line.strip():
                content = line.removesuffix(b"\n").removesuffix(b"\r")
                yield functools.partial(self.row, content, offset, data, number)

    def row(self, line: bytes, offset: int, data: config.Data, number: int | None = None) -> Document | BadRow:
        """Return the document of a line, given without its end."""
        return parse(line, offset, data)._replace(line=number)


def _lines(file: BinaryIO, start: int, end: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) for the lines that begin in [start, end), cut off soon after `limit` bytes."""
    base = max(start - 1, 0)
    file.seek(base)
    chunk = file.read(end - base)
    at = 0 if start == 0 else chunk.find(b"\n") + 1
    if start > 0 and at == 0:
        return  # the whole unit is the middle of a line
    if start == 0 and chunk.startswith(BYTE_ORDER_MARK):
        at = len(BYTE_ORDER_MARK)
    while at < len(chunk):
        stop = chunk.find(b"\n", at)
        if stop < 0:
            # The last line goes on behind the unit; what is beyond the limit is not needed.
            rest = file.readline(max(limit + 2 - (len(chunk) - at), 0))
            yield base + at, (chunk[at:] + rest).removesuffix(b"\n").removesuffix(b"\r")
            return
        yield base + at, chunk[at:stop].removesuffix(b"\r")
        at = stop + 1


def parse(line: bytes, offset: int | None, data: config.Data) -> Document | BadRow:
    """Return the document of a JSON object in UTF-8, or what is wrong with it."""
    if len(line) > data.max_line_bytes:
        return BadRow(offset, f"longer than data.max_line_bytes={data.max_line_bytes}")
    try:
        row = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        return BadRow(offset, f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(offset, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return BadRow(offset, f"not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(offset, f"not an object but {rows.kind(row)}")
    return rows.to_document(row, offset, data)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
