"""CSV as RFC 4180 has it: a row of names, then a row a document, with line ends inside of quotes.

Nobody can tell in the middle of such a file whether a line end is inside of quotes, so a file is read from its
beginning. Rows that cannot be read end where it can be said best: one with a broken quote after its first line, one
that is too long where its limit is reached, at a line end.
"""

import csv
import functools
import re
from collections import deque
from collections.abc import Iterator

from codex_jax import amounts, config
from codex_jax.data import chunks as pieces
from codex_jax.data import documents, report, rows
from codex_jax.data.chunks import Line
from codex_jax.data.documents import BadRow, Document, Record


# So many units make a window, as with JSON lines.
_UNITS_IN_WINDOW = 32
_LEAST_BYTES = 1024
_LINE_END = re.compile(rb"\r\n|\n|\r")


class CsvSource:
    """Files of comma-separated values."""

    suffixes: tuple[str, ...] = (".csv",)
    is_text = True

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of the range of a file whose rows come together."""
        return max(data.window_bytes // _UNITS_IN_WINDOW, _LEAST_BYTES)

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        """Yield what makes a document of each row but the first, which names the fields."""
        # The module has one limit for all its readers; what is longer is refused in any case.
        csv.field_size_limit(max(csv.field_size_limit(), data.max_line_bytes + 1))
        feed = _Feed(pieces.lines(chunks, _LINE_END, data.max_line_bytes), data.max_line_bytes)
        table = csv.reader(feed, strict=True)
        names: list[str] = []
        while (row := _next(table, feed)) is not None:
            if not isinstance(row, BadRow):
                if names and row:
                    yield functools.partial(_document, row, names, feed.row[0].number, data)
                names = names or row
            elif names:
                yield documents.read_already(row)
            else:
                reason = f"{report.REST}: its row of names is {row.reason}"
                yield documents.read_already(row._replace(reason=reason))
                return


class _Feed(Iterator[str]):
    """Gives the csv module one line after the other, and holds those of the row at hand."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self.row: list[Line] = []
        self._lines = lines
        self._again: deque[Line] = deque()
        self.limit = limit
        self._size = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.row.append(line)
        if self._size + len(line.content.rstrip(b"\r\n")) > self.limit:
            raise _TooLong
        self._size += len(line.content)
        return line.content.decode("utf-8", "surrogateescape")

    def begin(self) -> None:
        """Begin a row with the next line."""
        self.row, self._size = [], 0

    def begin_again(self, line: int) -> None:
        """Begin the next row with a line of the one at hand."""
        self._again.extendleft(reversed(self.row[line:]))


class _TooLong(Exception):
    """The row at hand is longer than it may be."""


def _next(table: Iterator[list[str]], feed: _Feed) -> list[str] | BadRow | None:
    """Return the next row, or what is wrong with it; None behind the last."""
    feed.begin()
    try:
        return next(table, None)
    except csv.Error as error:
        feed.begin_again(1)
        reason = f"not CSV: {error}"
    except _TooLong:
        reason = f"longer than data.max_line_bytes={feed.limit}"
        if len(feed.row) > 1:
            feed.begin_again(-1)
            reason += f", or a quote in it is never closed: {len(feed.row) - 1} lines are left out"
    return BadRow(None, reason, feed.row[0].number)


def _document(row: list[str], names: list[str], line: int, data: config.Data) -> Document | BadRow:
    if len(row) != len(names):
        return BadRow(None, f"has {amounts.counted(len(row), 'field')}, the first row names {len(names):,}", line)
    if any("\udc80" <= letter <= "\udcff" for field in row if not field.isascii() for letter in field):
        return BadRow(None, "not UTF-8", line)
    return rows.to_document(dict(zip(names, row, strict=True)), None, data)._replace(line=line)
