"""Plain text as data.document says: pieces of files, their lines, or whole files.

A line ends at a line feed and nowhere else, and a carriage return before it belongs to the end. Lines of white space
alone are no documents.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from codex_jax import config
from codex_jax.data import documents, jsonl
from codex_jax.data.chunks import BYTE_ORDER_MARK
from codex_jax.data.documents import BadRow, Document, Record
from codex_jax.data.text import TextSource


class PlainSource:
    """UTF-8 text; also the files of the standard library."""

    suffixes: tuple[str, ...] = TextSource.suffixes
    is_text = True

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of a unit of the kind that data.document names."""
        return _KINDS[data.document].unit_bytes(data)

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the documents of the unit."""
        return _KINDS[data.document].read(file, size, unit, data)

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        """Yield what makes each document."""
        return _KINDS[data.document].follow(chunks, data)


def parse(content: bytes, offset: int | None, data: config.Data) -> Document | BadRow:
    """Return the document that is all of `content`, or what is wrong with it."""
    if len(content) > data.max_line_bytes:
        return BadRow(offset, f"longer than data.max_line_bytes={data.max_line_bytes}")
    try:
        return documents.plain(content.decode(), content, offset)
    except UnicodeDecodeError as error:
        return BadRow(offset, f"byte 0x{content[error.start]:02x} at column {error.start + 1} is not UTF-8")


class _Lines(jsonl.JsonlSource):
    """Each line is a document; the units are those of JSON Lines."""

    def row(self, line: bytes, offset: int, data: config.Data, number: int | None = None) -> Document | BadRow:
        return parse(line, offset, data)._replace(line=number)


class _Files:
    """Each file is a document, and a unit."""

    def unit_bytes(self, data: config.Data) -> int:
        return 1 << 62

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        yield _whole(file.read(data.max_line_bytes + 1), data)

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        content = bytearray()
        for chunk in chunks:
            content += chunk[: data.max_line_bytes + 1 - len(content)]
        yield lambda: _whole(bytes(content), data)


def _whole(content: bytes, data: config.Data) -> Document | BadRow:
    """Return the document of a file, of which no more is given than tells that it is too large."""
    if len(content) > data.max_line_bytes:
        reason = f"larger than data.max_line_bytes={data.max_line_bytes} allows for a document"
        return BadRow(0, f"{reason}; raise it, or choose another data.document", 1)
    text = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return documents.plain(text.decode(), text, 0)._replace(line=1)
    except UnicodeDecodeError as error:
        place = len(content) - len(text) + error.start
        line = 1 + content.count(b"\n", 0, place)
        return BadRow(place, f"byte 0x{text[error.start]:02x} is not UTF-8 ({error.reason})", line)


_KINDS: Mapping[str, TextSource | _Lines | _Files] = {"piece": TextSource(), "line": _Lines(), "file": _Files()}
