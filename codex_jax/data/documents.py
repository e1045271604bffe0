"""What a source yields: documents, and rows that are none, with the place of each in its file."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """A stretch of a document by one author."""

    text: str
    role: str
    """text; prompt or completion; or, of a message in a chat, system, user, assistant or tool"""


class Document(NamedTuple):
    """What is read, learnt from and split as a whole, never mixed with another."""

    parts: tuple[Part, ...]
    content: bytes
    """what decides the split and identifies the document"""
    offset: int | None
    """where it begins in the text of its file, in bytes; None in tables"""
    line: int | None = None
    """from 1, where the source knows it; in tables the number of the row"""
    label: int | None = None
    """the number of its class, with data.objective=classes; no part of the content, so copies may differ in it"""

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


class BadRow(NamedTuple):
    """A row that cannot be read; `reason` never quotes it."""

    offset: int | None
    reason: str
    line: int | None = None


# What makes a document of a record that has been read.
Record = Callable[[], Document | BadRow]


class Turn(NamedTuple):
    """A part that has been redacted."""

    role: str
    pieces: list["Piece"]


class Piece(NamedTuple):
    """Text that is given to the tokenizer on its own."""

    text: str
    learnt: bool
    """whether its tokens may be targets"""
    special: bool = False
    """whether control tokens spelt out in it are control tokens; never for what a document says"""
    label: int | None = None
    """a number that stands in the row as it is, in place of the text"""


def plain(text: str, content: bytes, offset: int | None) -> Document:
    """Return a document of text alone, whose content is the text in UTF-8."""
    return Document((Part(text, "text"),), content, offset)


def structured(parts: Sequence[Part], offset: int | None) -> Document:
    """Return a document whose content keeps the borders of its parts: ab, c is another document than a, bc.

    Raises UnicodeEncodeError for half of a surrogate pair.
    """
    pairs = [[part.role, part.text] for part in parts]
    content = json.dumps(pairs, ensure_ascii=False, separators=(",", ":")).encode()
    return Document(tuple(parts), content, offset)


def read_already(row: BadRow) -> Record:
    """Return a bad row as a record."""
    return lambda: row


def of_parts(parts: Sequence[Part], offset: int | None) -> Document:
    """Return the document of these parts, plain or structured as their roles say; errors are those of `structured`."""
    if parts[0].role == "text":
        return plain(parts[0].text, parts[0].text.encode(), offset)
    return structured(parts, offset)


def split_of(digest: str, validation: float, test: float) -> str:
    """Return train, validation or test: the split of the document of that digest, given the shares of the last two.

    It depends on nothing but the document: others may come and go, and copies of one are always on the same side.
    Validation is taken from the bottom of the range of digests and test from its top, so that neither moves the other.
    """
    place = int(digest[:16], 16)
    if place < validation * 2**64:
        return "validation"
    return "test" if 2**64 - place <= test * 2**64 else "train"
