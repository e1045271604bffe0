"""Arrow IPC, as `datasets` saves it: messages one after the other, a schema and then batches of rows.

A unit is a range of bytes; it owns the batches that begin in it. To find them only the head of each message is read,
some 200 bytes: the file has no index. A batch is read as a whole, not mapped, since a map of a file that is cut off
meanwhile ends the process.
"""

import contextlib
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from codex_jax import config
from codex_jax.data import columns
from codex_jax.data.documents import BadRow, Document
from codex_jax.errors import AssetError


# What stands before the same messages in the format with an index at the end.
_FILE_MARK = b"ARROW1\0\0"
_MESSAGE_MARK = 0xFFFFFFFF
# Of the union MessageHeader in Arrow's Message.fbs.
_SCHEMA, _BATCH = 1, 3


class _Message(NamedTuple):
    kind: int
    begin: int
    end: int
    num_rows: int
    """of a batch"""


class ArrowSource:
    """Files of Arrow IPC, by the extra `hf`."""

    suffixes: tuple[str, ...] = (".arrow",)
    is_text = False

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of the range of a file that is read at a time."""
        return data.window_bytes

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the batches that begin in the unit."""
        pyarrow = columns.import_pyarrow("Arrow", "hf")
        with _named(file, pyarrow):
            found = _messages(file, size)
            schema = _schema(next(found), file, pyarrow)
            as_bytes = pyarrow.schema([field.with_type(_as_bytes(field.type, pyarrow)) for field in schema])
            names, number = columns.wanted(schema.names, data), 1
            for message in found:
                if message.begin >= (unit + 1) * data.window_bytes:
                    return
                if message.begin >= unit * data.window_bytes:
                    body = _body(message, file, pyarrow)
                    # Offsets that lead out of the batch would be followed. Bytes that are no text cost their row alone.
                    _batch(message, body, as_bytes, pyarrow).select(names).validate(full=True)
                    batch = _batch(message, body, schema, pyarrow).select(names)
                    yield from columns.documents(batch, number, data)
                number += message.num_rows


def _schema(message: _Message, file: BinaryIO, pyarrow: ModuleType) -> Any:
    if message.kind != _SCHEMA:
        raise ValueError("it does not begin with a schema")
    return pyarrow.ipc.read_schema(_body(message, file, pyarrow))


def _as_bytes(kind: Any, pyarrow: ModuleType) -> Any:
    """Return a type of the same layout that takes any bytes for a text, as deep as `datasets` nests messages."""
    types, inner = pyarrow.types, [kind.field(number) for number in range(kind.num_fields)]
    inner = [field.with_type(_as_bytes(field.type, pyarrow)) for field in inner]
    if types.is_struct(kind):
        return pyarrow.struct(inner)
    if types.is_list(kind):
        return pyarrow.list_(*inner)
    if types.is_large_list(kind):
        return pyarrow.large_list(*inner)
    plain = {
        pyarrow.string(): pyarrow.binary(),
        pyarrow.large_string(): pyarrow.large_binary(),
        pyarrow.string_view(): pyarrow.binary_view(),
    }
    return plain.get(kind, kind)


def _batch(message: _Message, body: Any, schema: Any, pyarrow: ModuleType) -> Any:
    if message.kind != _BATCH:
        raise ValueError("it has columns that are encoded by a dictionary; write them as plain values")
    return pyarrow.ipc.read_record_batch(body, schema)


def _body(message: _Message, file: BinaryIO, pyarrow: ModuleType) -> Any:
    file.seek(message.begin)
    return pyarrow.py_buffer(file.read(message.end - message.begin))


def _messages(file: BinaryIO, size: int) -> Iterator[_Message]:
    """Yield every message up to the end mark; ValueError or struct.error where there is none."""
    file.seek(0)
    at = len(_FILE_MARK) if file.read(len(_FILE_MARK)) == _FILE_MARK else 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise ValueError(f"it ends at byte {size} without an end mark")
        mark, length = struct.unpack("<II", head)
        if mark != _MESSAGE_MARK:
            raise ValueError(f"no message begins at byte {at}")
        if length == 0:
            return
        message = _head(file.read(min(length, size - at)), at, length)
        if message.end > size or message.end <= at:
            raise ValueError(f"it has {size} bytes, and one message goes from byte {at} to {message.end}")
        yield message
        at = message.end


def _head(content: bytes, begin: int, length: int) -> _Message:
    """Return what the FlatBuffer before a body says; struct.error where it leads nowhere."""
    (root,) = struct.unpack_from("<I", content)
    kind, header, body = (_field(content, root, number) for number in (1, 2, 3))
    (body_size,) = struct.unpack_from("<q", content, body) if body else (0,)
    (kind_of,) = struct.unpack_from("B", content, kind) if kind else (0,)
    num_rows = 0
    if kind_of == _BATCH:
        table = header + struct.unpack_from("<I", content, header)[0]
        place = _field(content, table, 0)
        (num_rows,) = struct.unpack_from("<q", content, place) if place else (0,)
    return _Message(kind_of, begin, begin + 8 + length + body_size, num_rows)


def _field(content: bytes, table: int, number: int) -> int:
    """Return where a field of a FlatBuffer's table lies; 0 where it has its default."""
    offsets = table - struct.unpack_from("<i", content, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", content, offsets)[0]:
        return 0
    (offset,) = struct.unpack_from("<H", content, offsets + place)
    return table + offset if offset else 0


@contextlib.contextmanager
def _named(file: BinaryIO, pyarrow: ModuleType) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, struct.error, ValueError, OSError) as error:
        raise AssetError(f"{file.name} is not a whole Arrow file: {error}; fetch or write it again") from error
