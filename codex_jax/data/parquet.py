"""Parquet: tables of named columns, of which only those that make documents are read.

A unit is a range of bytes; it owns the row groups that begin in it. One row group is decoded at a time, so files made
for training have groups of a few MB.
"""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO

from codex_jax import config
from codex_jax.data import columns
from codex_jax.data.documents import BadRow, Document
from codex_jax.errors import AssetError


class ParquetSource:
    """Files of Apache Parquet, by the extra `parquet`."""

    suffixes: tuple[str, ...] = (".parquet",)
    is_text = False

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of the range of a file that is read at a time."""
        return data.window_bytes

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the row groups that begin in the unit."""
        pyarrow = columns.import_pyarrow("parquet", "parquet")
        with _named(file, pyarrow):
            table = pyarrow.parquet.ParquetFile(file)
            yield from _unit(table, range(unit * data.window_bytes, (unit + 1) * data.window_bytes), data)


def _unit(table: Any, owned: range, data: config.Data) -> Iterator[Document | BadRow]:
    names = columns.wanted(table.schema_arrow.names, data)
    number = 1
    for group in range(table.num_row_groups):
        details = table.metadata.row_group(group)
        if _begin(details) in owned:
            for batch in table.iter_batches(columns.ROWS_AT_ONCE, row_groups=[group], columns=names):
                yield from columns.documents(batch, number, data)
                number += batch.num_rows
        else:
            number += details.num_rows


def _begin(group: Any) -> int:
    """Return the first byte of a row group; its own offset is not always written."""
    columns = [group.column(index) for index in range(group.num_columns)]
    return min(column.dictionary_page_offset or column.data_page_offset for column in columns)


@contextlib.contextmanager
def _named(file: BinaryIO, pyarrow: ModuleType) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:  # the names of columns are UTF-8
        raise AssetError(f"{file.name} is not a whole Parquet file: {error}; fetch or write it again") from error
