"""Parquet: tables of named columns, of which only those that make documents are read.

A unit is a range of bytes; it owns the row groups that begin in it. One row group is decoded at a time, so files made
for training have groups of a few MB.
"""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO

from codex_jax import config
from codex_jax.data import rows
from codex_jax.data.documents import BadRow, Document
from codex_jax.errors import AssetError, ConfigError


# Rows that are Python objects at one time.
_ROWS_AT_ONCE = 256


class ParquetSource:
    """Files of Apache Parquet, by the extra `parquet`."""

    suffixes: tuple[str, ...] = (".parquet",)
    is_text = False

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of the range of a file that is read at a time."""
        return data.window_bytes

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the row groups that begin in the unit."""
        pyarrow = _pyarrow()
        with _named(file, pyarrow):
            table = pyarrow.parquet.ParquetFile(file)
            yield from _unit(table, range(unit * data.window_bytes, (unit + 1) * data.window_bytes), data)


def _unit(table: Any, owned: range, data: config.Data) -> Iterator[Document | BadRow]:
    fields = (data.text_field, data.prompt_field, data.completion_field, data.messages_field)
    columns = [name for name in table.schema_arrow.names if name in fields]
    number = 0
    for group in range(table.num_row_groups):
        details = table.metadata.row_group(group)
        if _begin(details) in owned:
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                for row in batch.to_pylist() if columns else [{}] * batch.num_rows:
                    number += 1
                    yield rows.to_document(row, None, data)._replace(line=number)
        else:
            number += details.num_rows


def _begin(group: Any) -> int:
    """Return the first byte of a row group; its own offset is not always written."""
    columns = [group.column(index) for index in range(group.num_columns)]
    return min(column.dictionary_page_offset or column.data_page_offset for column in columns)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"parquet files need pyarrow: pip install 'codex-jax[parquet]' ({error})") from error
    return pyarrow


@contextlib.contextmanager
def _named(file: BinaryIO, pyarrow: ModuleType) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise AssetError(f"{file.name} is not a whole Parquet file: {error}; fetch or write it again") from error
