"""Plain text as data.document says: pieces of files, their lines, or whole files.

A line ends at a line feed and nowhere else, and a carriage return before it belongs to the end. Lines of white space
alone are no documents.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from codex_jax import config
from codex_jax.data import documents, jsonl
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.text import BYTE_ORDER_MARK, TextSource


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


class _Lines(jsonl.JsonlSource):
    """Each line is a document; the units are those of JSON Lines."""

    def row(self, line: bytes, offset: int, data: config.Data) -> Document | BadRow:
        try:
            return documents.plain(line.decode(), line, offset)
        except UnicodeDecodeError as error:
            return BadRow(offset, f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8")


class _Files:
    """Each file is a document, and a unit."""

    def unit_bytes(self, data: config.Data) -> int:
        return 1 << 62

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        if size > data.max_line_bytes:
            yield BadRow(
                0,
                f"{size} bytes are more than data.max_line_bytes={data.max_line_bytes} allows for a whole file; raise "
                "it, or choose another data.document",
            )
            return
        whole = file.read(size)
        content = whole.removeprefix(BYTE_ORDER_MARK)
        try:
            yield documents.plain(content.decode(), content, 0)
        except UnicodeDecodeError as error:
            place = len(whole) - len(content) + error.start
            yield BadRow(place, f"byte 0x{content[error.start]:02x} is not UTF-8 ({error.reason})")


_KINDS: Mapping[str, TextSource | _Lines | _Files] = {"piece": TextSource(), "line": _Lines(), "file": _Files()}
