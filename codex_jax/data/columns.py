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
    fields = [data.text_field, data.prompt_field, data.completion_field, data.messages_field]
    if data.objective == "classes":
        fields.append(data.label_field)
    return [name for name in names if name in fields]


def documents(batch: Any, first: int, data: config.Data) -> Iterator[Document | BadRow]:
    """Yield the documents of a batch of the wanted columns; `first` is the number of its first row."""
    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
        part = batch.slice(start, ROWS_AT_ONCE)
        for number, row in enumerate(_rows(part), first + start):
            made = row if isinstance(row, BadRow) else rows.to_document(row, None, data)
            yield made._replace(line=number)


def _rows(part: Any) -> list[dict[str, Any] | BadRow]:
    """Return the rows of a batch by their fields; what Python cannot hold, as bytes that are no text, is a bad row."""
    if not part.num_columns:
        return [{}] * part.num_rows
    try:
        return list(part.to_pylist())
    except (ValueError, OverflowError):
        return [_row(part.slice(number, 1)) for number in range(part.num_rows)]


def _row(part: Any) -> dict[str, Any] | BadRow:
    try:
        return dict(part.to_pylist()[0])
    except UnicodeDecodeError:
        return BadRow(None, "not UTF-8")
    except (ValueError, OverflowError) as error:
        return BadRow(None, f"a field cannot be read: {type(error).__name__}")


def import_pyarrow(kind: str, extra: str) -> ModuleType:
    """Return pyarrow; ConfigError, naming the extra that brings it along, when it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{kind} files need pyarrow: pip install 'codex-jax[{extra}]' ({error})") from error
    return pyarrow
