"""SHA-256 of bytes, of files and of JSON values: the one place that decides how things are fingerprinted."""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO


def of_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces so that its size does not matter."""
    with open(path, "rb") as file:
        return of_open(file)


def of_open(file: BinaryIO) -> str:
    """Return the hexadecimal SHA-256 of what is left to read of a file, read in pieces."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def of_json(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a JSON value, equal for equal values whatever the order of their keys."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
