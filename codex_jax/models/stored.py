"""A tensor in a file: where its bytes lie, what they mean, and how they are read without holding more than needed.

R rows and C columns of a tensor as its file has it
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from codex_jax.errors import AssetError


# The types that are read, by the names safetensors has for them; all of them become float32 without loss.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
BAND_BYTES = 4 << 20
# Turning a matrix in strips this wide keeps to the cache: 1.5 to 3 GB/s, where NumPy's own copy of all has 0.3.
_STRIP = 16
# jax takes memory that begins at a multiple of it as it is, on a CPU, instead of copying.
_ALIGNMENT = 64
_LONGEST_NAME = 512
# Above the exponent of all ones, with a sign or without it, there is no number: the bits of infinity and NaN.
_BITS: dict[str, tuple[Any, Any, int]] = {
    "F32": (np.uint32, np.int32, 0x7F80_0000),
    "F16": (np.uint16, np.int16, 0x7C00),
    "BF16": (np.uint16, np.int16, 0x7F80),
}


class Stored(NamedTuple):
    """A tensor of a weight file, found in a header that was checked: nothing of its values is read yet."""

    path: Path
    name: str
    """as transformers has it in torch"""
    dtype: str
    """one of DTYPES, or the name of one that cannot be read"""
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]
    """(offset, length) of its bytes in the file, in order"""
    turned: bool = False
    """the file has the transposed matrix of that shape"""

    @property
    def num_bytes(self) -> int:
        """How much of the file it takes."""
        return sum(length for _, length in self.pieces)


def room(size: int) -> np.ndarray:
    """Return memory for so many float32, to be read into."""
    memory = np.empty(4 * size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + 4 * size].view(np.float32)


def read(stored: Stored, memory: np.ndarray, *, turned: bool) -> np.ndarray:
    """Return the values as float32, transposed if `turned`, in `memory` that has room for exactly them.

    Beyond it a few megabytes are in use while reading. Raises AssetError when the file ends early, and for values that
    are no finite numbers: a model with one of them gives nothing else.
    """
    rows, columns = _as_kept(stored)
    turned ^= stored.turned
    out = memory.reshape((columns, rows) if turned else (rows, columns))
    for first, band_RC in _bands(stored, rows, columns):
        if not _is_finite(stored.dtype, band_RC):
            raise AssetError(
                f"{stored.path}: tensor {stored.name} has values that are no finite numbers; codex-jax model import "
                "counts them"
            )
        if not turned:
            out[first : first + len(band_RC)] = band_RC
            continue
        plain_RC = band_RC.astype(np.float32)  # turning float32 is three times as fast as turning bfloat16
        for at in range(0, len(plain_RC), _STRIP):
            strip_RC = plain_RC[at : at + _STRIP]
            out[:, first + at : first + at + len(strip_RC)] = strip_RC.T
    return out if len(stored.shape) == 2 else out.reshape(stored.shape)


def num_not_finite(stored: Stored) -> int:
    """Return how many of the values are infinite or no numbers."""
    bands = _bands(stored, *_as_kept(stored))
    return sum(int(np.sum(~np.isfinite(band))) for _, band in bands if not _is_finite(stored.dtype, band))


def refuse_name(name: str, path: Path) -> None:
    """Raise AssetError for a name of a tensor that would be a message of its own in a message."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise AssetError(f"{path} has a tensor of {len(name):,} characters that is called {name!r:.80}")


def raw(stored: Stored) -> Iterator[bytes]:
    """Yield the bytes in pieces of a few megabytes."""
    with open(stored.path, "rb") as file:
        for at in range(0, stored.num_bytes, BAND_BYTES):
            yield _bytes(file, stored, at, min(BAND_BYTES, stored.num_bytes - at))


def _as_kept(stored: Stored) -> tuple[int, int]:
    if len(stored.shape) != 2:
        return math.prod(stored.shape), 1
    rows, columns = stored.shape
    return (columns, rows) if stored.turned else (rows, columns)


def _is_finite(dtype: str, band: np.ndarray) -> bool:
    """Return whether all are finite, by their bits: in bfloat16 a twentieth of the time that asking each takes."""
    unsigned, signed, infinity = _BITS[dtype]
    bits = band.reshape(-1)
    sign = 1 << (8 * band.itemsize - 1)
    found = bits.view(signed).max(initial=0) < infinity and bits.view(unsigned).max(initial=0) < infinity + sign
    return bool(found)


def _bands(stored: Stored, rows: int, columns: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the first row, rows of the matrix) until all were read."""
    dtype = DTYPES[stored.dtype]
    row_bytes = columns * dtype.itemsize
    height = max(1, BAND_BYTES // max(1, row_bytes))
    with open(stored.path, "rb") as file:
        for first in range(0, rows, height):
            count = min(height, rows - first)
            band = np.frombuffer(_bytes(file, stored, first * row_bytes, count * row_bytes), dtype)
            yield first, band.reshape(count, columns)


def _bytes(file: BinaryIO, stored: Stored, start: int, length: int) -> bytes:
    """Return a part of a tensor's bytes, which may lie in several pieces."""
    found = []
    for offset, size in stored.pieces:
        if length and start < size:
            file.seek(offset + start)
            found.append(file.read(min(length, size - start)))
            length -= len(found[-1])
        start = max(0, start - size)
    if length:
        raise AssetError(f"{stored.path} was cut off while it was read")
    return found[0] if len(found) == 1 else b"".join(found)
