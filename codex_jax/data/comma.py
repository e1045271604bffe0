"""CSV as RFC 4180 has it: a row of names, then a row a document, with line ends inside of quotes.

Nobody can tell in the middle of such a file whether a line end is inside of quotes, so a file is one unit, and all of
its documents are in one window.
"""

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from codex_jax import config
from codex_jax.data import rows
from codex_jax.data.documents import BadRow, Document


class CsvSource:
    """Files of comma-separated values."""

    suffixes: tuple[str, ...] = (".csv",)
    is_text = True

    def unit_bytes(self, data: config.Data) -> int:
        """Return more than the size of any file."""
        return 1 << 62

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the file."""
        # The module has one limit for all its readers; what is longer is refused in any case.
        csv.field_size_limit(max(csv.field_size_limit(), data.max_line_bytes))
        with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            line, table = 1, csv.reader(text, strict=True)
            names: list[str] = []
            try:
                for row in table:
                    if names and row:
                        yield _document(row, names, line, data)
                    names, line = names or row, table.line_num + 1
            except csv.Error as error:
                # Where the next row begins cannot be told.
                yield BadRow(None, f"not CSV: {error}; what follows is not read", line)


def _document(row: list[str], names: list[str], line: int, data: config.Data) -> Document | BadRow:
    if len(row) != len(names):
        return BadRow(None, f"has {len(row)} fields, the first row names {len(names)}", line)
    if sum(map(len, row)) > data.max_line_bytes:
        return BadRow(None, f"longer than data.max_line_bytes={data.max_line_bytes}", line)
    if any("\udc80" <= letter <= "\udcff" for field in row if not field.isascii() for letter in field):
        return BadRow(None, "not UTF-8", line)
    return rows.to_document(dict(zip(names, row, strict=True)), None, data)._replace(line=line)
