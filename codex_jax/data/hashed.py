"""Files that are written from their beginning to their end, and what a manifest says of them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np


class Hashed:
    """A file that is written from its beginning to its end, its digest on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes | np.ndarray) -> None:
        """Append bytes, or those of an array."""
        plain = content if isinstance(content, bytes) else content.data
        view = memoryview(plain).cast("B") if len(content) else memoryview(b"")
        self._file.write(view)
        self.sha256.update(view)
        self.bytes += len(view)


def lines(rows: Sequence[Any]) -> bytes:
    """Return named tuples as JSON objects, one a line."""
    return b"".join(json.dumps(row._asdict()).encode() + b"\n" for row in rows)
