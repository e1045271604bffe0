"""What a source yields: documents, and rows that are none, with the place of each in its file."""

import hashlib
from typing import NamedTuple


class Document(NamedTuple):
    """One text, never mixed with another."""

    text: str
    content: bytes
    """the text in UTF-8: what decides the split and identifies the document"""
    offset: int
    """where it begins in its file, in bytes"""

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


class BadRow(NamedTuple):
    """A row that cannot be read; `reason` never quotes it."""

    offset: int
    reason: str


def is_held_out(digest: str, fraction: float) -> bool:
    """Say whether the document of that digest is one of the share kept for validation.

    It depends on nothing but the document: others may come and go, and copies of one are always on the same side.
    """
    return int(digest[:16], 16) < fraction * 2**64
