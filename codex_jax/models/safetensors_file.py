"""The header of a .safetensors file, read with distrust: what it says must be true of the file before anything is used.

The library of that name checks the same, but maps the file into memory, where every page that was read counts.
"""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

from codex_jax import untrusted
from codex_jax.errors import AssetError
from codex_jax.models.stored import Stored, refuse_name


# The library takes 100 MB. A tensor needs about 100 bytes, so this is room for 40,000 of them in one file.
MOST_HEADER_BYTES = 4 << 20
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F4", "F6_E2M3", "F6_E3M2"), 0),  # of sizes that do not matter: they are never read
}


def tensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a file by name; AssetError for whatever does not hold together. No value is read."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        text, start = _header(file, size, path)
    fields = untrusted.parse_object(text, f"the header of {path}")
    fields.pop("__metadata__", None)
    found = {name: _stored(name, value, path, start) for name, value in fields.items()}
    _check_cover(found, start, size, path)
    return found


def _header(file: BinaryIO, size: int, path: Path) -> tuple[bytes, int]:
    """Return the text of the header and where the values begin."""
    length = int.from_bytes(file.read(8), "little") if size >= 8 else -1
    if not 2 <= length <= size - 8:
        raise AssetError(
            f"{path} is no safetensors file, or was cut off: its first 8 bytes announce a header of {length:,} bytes, "
            f"and it has {size:,} in all"
        )
    if length > MOST_HEADER_BYTES:
        raise AssetError(f"{path} has a header of {length:,} bytes; at most {MOST_HEADER_BYTES:,} are read")
    return file.read(length), 8 + length


def _stored(name: str, value: Any, path: Path, start: int) -> Stored:
    refuse_name(name, path)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise AssetError(f"{path}: tensor {name!r:.80} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise AssetError(f"{path}: tensor {name!r:.80} has shape {shape!r:.80} and data_offsets {offsets!r:.80}")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise AssetError(f"{path}: tensor {name!r:.80} is of the unknown type {dtype!r:.40}")
    begin, end = offsets
    needed = math.prod(shape) * _BITS[dtype] // 8
    if _BITS[dtype] and end - begin != needed:
        raise AssetError(
            f"{path}: tensor {name!r:.80} of {dtype} {shape!r:.80} needs {needed:,} bytes; its data_offsets give "
            f"{end - begin:,}"
        )
    return Stored(path, name, dtype, tuple(shape), ((start + begin, end - begin),))


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _check_cover(found: dict[str, Stored], start: int, size: int, path: Path) -> None:
    """Raise AssetError unless the tensors lie one behind the other and fill the file: no hole, no overlap, no rest."""
    place = start
    for name, one in sorted(found.items(), key=lambda item: item[1].pieces):
        (begin, length) = one.pieces[0]
        if begin != place:
            what = "overlaps what is before it" if begin < place else "leaves a hole before it"
            raise AssetError(f"{path}: tensor {name!r:.80} {what}: it begins at {begin - start}, not {place - start}")
        place = begin + length
    if place != size:
        raise AssetError(
            f"{path} is damaged: its tensors end at byte {place:,}, and the file has {size:,}; fetch it again"
        )
