"""Opens the files of a corpus: the one place that does."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from codex_jax.errors import AssetError


_BLOCK_BYTES = 65_536


def open_binary(path: str) -> BinaryIO:
    """Open a file to read its bytes; OSError when that cannot be done."""
    return open(path, "rb")


def size_of(path: str) -> int:
    """Return the size of a file in bytes; OSError when it is not there."""
    return os.stat(path).st_size


def changed(path: str, size: int) -> AssetError:
    """Return the error for a file that is not of the size any more that it had when the run began."""
    return AssetError(f"{path} has changed: it had {size} bytes when the run began")


def blocks(path: str, size: int) -> Iterator[bytes]:
    """Yield the `size` bytes of a file in their order, 64 KiB at a time; AssetError when there are fewer."""
    with open_binary(path) as file:
        left = size
        while left:
            block = file.read(min(left, _BLOCK_BYTES))
            if not block:
                raise changed(path, size)
            left -= len(block)
            yield block
