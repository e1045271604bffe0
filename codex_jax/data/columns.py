"""Batches of columns, as pyarrow holds them, become documents; columns that make none are not looked at."""

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from codex_jax import config
from codex_jax.data import rows
from codex_jax.data.documents import BadRow, Document
from codex_jax.errors import ConfigError


# Rows that are Python objects at one time.
ROWS_AT_ONCE = 256


def wanted(names: Sequence[str], data: config.Data) -> list[str]:
    """Return which of the columns of a table make documents."""
    fields = (data.text_field, data.prompt_field, data.completion_field, data.messages_field)
    return [name for name in names if name in fields]


def documents(batch: Any, first: int, data: config.Data) -> Iterator[Document | BadRow]:
    """Yield the documents of a batch of the wanted columns; `first` is the number of its first row."""
    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
        part = batch.slice(start, ROWS_AT_ONCE)
        for number, row in enumerate(part.to_pylist() if batch.num_columns else [{}] * part.num_rows, first + start):
            yield rows.to_document(row, None, data)._replace(line=number)


def import_pyarrow(kind: str, extra: str) -> ModuleType:
    """Return pyarrow; ConfigError, naming the extra that brings it along, when it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{kind} files need pyarrow: pip install 'codex-jax[{extra}]' ({error})") from error
    return pyarrow
