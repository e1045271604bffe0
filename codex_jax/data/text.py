"""Text files, cut at line ends into documents of about data.document_bytes.

Where a cut falls is found when the document is read: nobody reads the corpus beforehand, and the cuts of one file
depend on that file alone.
"""

import functools
import itertools
import re
from collections.abc import Iterator
from typing import BinaryIO

from codex_jax import config
from codex_jax.data import documents
from codex_jax.data.chunks import BYTE_ORDER_MARK
from codex_jax.data.documents import BadRow, Document, Record


# Where a file without line ends may be cut: after a character that is part of no word, key or address.
_BREAK = re.compile(rb"[^A-Za-z0-9+/=_.@%\-\x80-\xff]")


class TextSource:
    """Plain UTF-8 text; also the files of the standard library."""

    suffixes: tuple[str, ...] = (".txt", ".text", ".md", ".rst", ".py")
    is_text = True

    def unit_bytes(self, data: config.Data) -> int:
        """Return the nominal size of a document."""
        return data.document_bytes

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield the document whose nominal start is `unit * document_bytes`, if there is one."""
        step = data.document_bytes
        start, end = unit * step, min((unit + 1) * step, size)
        base = max(start - 1, 0)
        file.seek(base)
        chunk = file.read(min(end + step, size) - base)
        first, last = (_cut(chunk, base, nominal, size, step) for nominal in (start, end))
        content = chunk[first - base : last - base]
        if content and content != BYTE_ORDER_MARK:
            yield _document(content, first)

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        """Yield what makes each document; they are cut where `read` cuts them."""
        step = end = data.document_bytes
        held, base, first, line = bytearray(), 0, 0, 1
        for chunk in itertools.chain(chunks, [None]):
            held += chunk or b""
            size = base + len(held)
            while first < size and (chunk is None or end + step <= size):
                last = _cut(held, base, min(end, size), size, step)
                content = bytes(held[first - base : last - base])
                if content != BYTE_ORDER_MARK:
                    yield functools.partial(_document, content, first, line)
                first, end, line = last, end + step, line + content.count(b"\n")
            del held[: first - base]
            base = first


def _document(content: bytes, offset: int, line: int | None = None) -> Document | BadRow:
    if offset == 0:
        content = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return documents.plain(content.decode(), content, offset)._replace(line=line)
    except UnicodeDecodeError as error:
        reason = f"byte 0x{content[error.start]:02x} is not UTF-8 ({error.reason})"
        number = None if line is None else line + content.count(b"\n", 0, error.start)
        return BadRow(offset + error.start, reason, number)


def _cut(chunk: bytes | bytearray, base: int, nominal: int, size: int, step: int) -> int:
    """Return the place of the cut at or after `nominal` and before `nominal + step`."""
    if nominal in (0, size):
        return nominal
    low, high = nominal - 1 - base, nominal - 1 - base + step
    found = chunk.find(b"\n", low, high)
    if found >= 0:
        return base + found + 1
    if match := _BREAK.search(chunk, low, high):
        return base + match.end()
    at = nominal - base
    while at < len(chunk) and at < nominal - base + 4 and chunk[at] & 0xC0 == 0x80:
        at += 1  # the middle of a character
    return base + at
