"""Tensors on their way into files, made one at a time: safetensors, whole or in shards, and Flax's msgpack."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import msgpack
import numpy as np

from codex_jax.models.weight_files import FLAX, INDEX, SINGLE


DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
# Flax writes larger arrays in parts, since msgpack counts bytes with 32 bits.
MOST_IN_ONE = 1 << 30


class Outgoing(NamedTuple):
    """A tensor that is to be written."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]
    """its values, float32"""


def write_safetensors(directory: Path, tensors: Sequence[Outgoing], dtype: str, shard_bytes: int) -> None:
    """Write model.safetensors, or files of at most `shard_bytes` and their index, as the library of that name does.

    A tensor that is larger has a file of its own. The library itself would need all of a file in memory.
    """
    parts = list(_shards(sorted(tensors), dtype, shard_bytes))
    names = (
        [SINGLE] if len(parts) == 1 else [f"model-{n + 1:05}-of-{len(parts):05}.safetensors" for n in range(len(parts))]
    )
    for name, part in zip(names, parts, strict=True):
        with open(directory / name, "wb") as file:
            _write_safetensors(file, part, dtype)
    if len(parts) == 1:
        return
    total = {"total_parameters": sum(map(_size, tensors)), "total_size": sum(_num_bytes(one, dtype) for one in tensors)}
    places = {one.name: name for name, part in zip(names, parts, strict=True) for one in part}
    text = json.dumps({"metadata": total, "weight_map": places}, indent=2, sort_keys=True)
    (directory / INDEX).write_text(text + "\n", encoding="utf-8")


def write_flax(directory: Path, tree: Mapping[str, Any], dtype: str) -> None:
    """Write flax_model.msgpack: a nested dict whose leaves are of Outgoing."""
    with open(directory / FLAX, "wb") as file:
        _write_flax(file, tree, dtype)


def _shards(tensors: Sequence[Outgoing], dtype: str, most: int) -> Iterator[list[Outgoing]]:
    part: list[Outgoing] = []
    for one in tensors:
        if part and sum(_num_bytes(other, dtype) for other in [*part, one]) > most:
            yield part
            part = []
        part.append(one)
    yield part


def _size(one: Outgoing) -> int:
    return math.prod(one.shape)


def _num_bytes(one: Outgoing, dtype: str) -> int:
    return _size(one) * DTYPES[dtype].itemsize


def _write_safetensors(file: BinaryIO, tensors: Sequence[Outgoing], dtype: str) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for one in tensors:
        begin, end = end, end + _num_bytes(one, dtype)
        header[one.name] = {"dtype": _NAMES[dtype], "shape": list(one.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for one in tensors:
        file.write(_bytes(one, dtype))


def _bytes(one: Outgoing, dtype: str) -> memoryview:
    values = np.ascontiguousarray(one.make(), DTYPES[dtype])
    if values.shape != one.shape:
        raise ValueError(f"{one.name} was to have shape {one.shape}, not {values.shape}")
    return values.reshape(-1).view(np.uint8).data


def _write_flax(file: BinaryIO, node: Any, dtype: str) -> None:
    packer = msgpack.Packer()
    if isinstance(node, Outgoing):
        data = _bytes(node, dtype)
        if len(data) <= MOST_IN_ONE:
            _write_array(file, node.shape, data, dtype)
            return
        step = MOST_IN_ONE // DTYPES[dtype].itemsize * DTYPES[dtype].itemsize
        parts = [data[at : at + step] for at in range(0, len(data), step)]
        file.write(packer.pack_map_header(3) + packer.pack("__msgpack_chunked_array__") + packer.pack(True))
        file.write(packer.pack("shape") + packer.pack({str(n): size for n, size in enumerate(node.shape)}))
        file.write(packer.pack("chunks") + packer.pack_map_header(len(parts)))
        for number, part in enumerate(parts):
            file.write(packer.pack(str(number)))
            _write_array(file, (len(part) // DTYPES[dtype].itemsize,), part, dtype)
        return
    file.write(packer.pack_map_header(len(node)))
    for name, inner in node.items():
        file.write(packer.pack(name))
        _write_flax(file, inner, dtype)


def _write_array(file: BinaryIO, shape: tuple[int, ...], data: memoryview, dtype: str) -> None:
    """Write an extension of type 1: an array of shape, type and bytes."""
    packer = msgpack.Packer()
    inner = packer.pack_array_header(3) + packer.pack(shape) + packer.pack(dtype)
    inner += b"\xc6" + len(data).to_bytes(4, "big")
    file.write(b"\xc9" + (len(inner) + len(data)).to_bytes(4, "big") + b"\x01" + inner)
    file.write(data)
