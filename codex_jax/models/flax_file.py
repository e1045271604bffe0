"""The tensors of a flax_model.msgpack: found by walking over the file, which is never loaded.

Flax writes a nested map whose leaves are msgpack extensions of shape, type and bytes; above 1 GiB they are maps of
parts. Its names become those of torch: a `kernel` is the transposed `weight`, in every family.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from codex_jax.errors import AssetError
from codex_jax.models.stored import Stored, refuse_name


T = TypeVar("T")
_NDARRAY = 1
_DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
_LAST = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_CHUNKED = "__msgpack_chunked_array__"
_DEEPEST, _LONGEST_NAME, _MOST_VALUES = 32, 512, 50_000
# Of 1 GiB each: as much as a file can have.
_MOST_PARTS = 4096


def tensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a file by the names torch has for them; AssetError when it is not as Flax writes it."""
    with open(path, "rb") as file:
        walk = _Walk(file, path)
        walk.value(())
        if file.read(1):
            raise walk.error("something follows its end")
    found: dict[str, Stored] = {}
    for parts, one in walk.found.items():
        name = _name(parts)
        refuse_name(name, path)
        if name in found:
            raise walk.error(f"{name!r:.80} is in it twice")
        found[name] = _turned(parts[-1], one)._replace(name=name)
    return found


def _name(parts: tuple[str, ...]) -> str:
    if len(parts) > 1 and parts[0] == "params":
        parts = parts[1:]
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])])


def _turned(last: str, one: Stored) -> Stored:
    if last != "kernel" or len(one.shape) != 2:
        return one
    return one._replace(shape=one.shape[::-1], turned=True)


class _Walk:
    """Reads what describes the tensors and steps over what is in them."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size = path.stat().st_size
        self.found: dict[tuple[str, ...], Stored] = {}
        self.values = 0

    def error(self, reason: str) -> AssetError:
        return AssetError(f"{self.path} is not as Flax writes weights, or was cut off: {reason}; fetch it again")

    def value(self, parts: tuple[str, ...]) -> None:
        """Read the map or tensor of that name."""
        self.values += 1
        if self.values > _MOST_VALUES:
            raise self.error(f"it has more than {_MOST_VALUES:,} values")
        code = self._code()
        count = self._map_size(code)
        if count is None:
            self._keep(parts, self._tensor(code))
            return
        if len(parts) > _DEEPEST:
            raise self.error(f"it is nested more than {_DEEPEST} deep")
        for number in range(count):
            key = self._text(self._code())
            if number == 0 and key == _CHUNKED:
                self._keep(parts, self._chunked(count))
                return
            self.value((*parts, key))

    def _keep(self, parts: tuple[str, ...], one: Stored) -> None:
        if not parts or parts in self.found:
            raise self.error(f"{'/'.join(parts)!r:.80} is in it twice, or there is but one tensor")
        self.found[parts] = one

    def _tensor(self, code: int) -> Stored:
        length = self._ext_size(code)
        end = self.file.tell() + length
        if self._code() != 0x93:
            raise self.error("a tensor is not shape, type and bytes")
        shape = tuple(self._count(self._code()) for _ in range(self._array_size(self._code())))
        name = self._text(self._code())
        if name not in _DTYPES:
            raise self.error(f"a tensor is of type {name!r:.40}; read are {', '.join(_DTYPES)}")
        dtype, itemsize = _DTYPES[name]
        num_bytes, place = self._bin_size(self._code()), self.file.tell()
        if math.prod(shape) * itemsize != num_bytes or place + num_bytes != end or end > self.size:
            raise self.error(f"a tensor of {name} {shape!r:.80} has {num_bytes:,} bytes")
        self.file.seek(end)
        return Stored(self.path, "", dtype, shape, ((place, num_bytes),))

    def _chunked(self, count: int) -> Stored:
        """Return a tensor of several parts: maps `shape` and `chunks` by "0", "1" and so on."""
        if count != 3 or self._code() != 0xC3:
            raise self.error("a tensor in parts is not as Flax has it")
        shape = tuple(self._listed("shape", self._count))
        parts = self._listed("chunks", self._tensor)
        if not parts or math.prod(shape) != sum(math.prod(part.shape) for part in parts):
            raise self.error("the parts of a tensor are not of its size")
        if len({part.dtype for part in parts}) != 1:
            raise self.error("the parts of a tensor are of different types")
        return parts[0]._replace(shape=shape, pieces=tuple(piece for part in parts for piece in part.pieces))

    def _listed(self, name: str, read: Callable[[int], T]) -> list[T]:
        """Return a list that is written as a map from "0", "1" and so on, under its name."""
        if self._text(self._code()) != name:
            raise self.error(f"a tensor in parts has no {name}")
        found: list[T] = []
        count = self._map_size(self._code()) or 0
        if count > _MOST_PARTS:
            raise self.error(f"a tensor has {count:,} parts")
        for number in range(count):
            if self._text(self._code()) != str(number):
                raise self.error("the parts of a tensor are out of order")
            found.append(read(self._code()))
        return found

    def _code(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        found = self.file.read(count)
        if len(found) != count:
            raise self.error("it ends early")
        return found

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._bytes(width), "big")

    def _map_size(self, code: int) -> int | None:
        if 0x80 <= code <= 0x8F:
            return code & 0x0F
        return self._unsigned(2 if code == 0xDE else 4) if code in (0xDE, 0xDF) else None

    def _array_size(self, code: int) -> int:
        if not 0x90 <= code <= 0x9F:
            raise self.error("a shape has more than 15 axes, or is none")
        return code & 0x0F

    def _ext_size(self, code: int) -> int:
        widths = {0xC7: 1, 0xC8: 2, 0xC9: 4}
        fixed = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
        if code not in widths and code not in fixed:
            raise self.error(f"a value is neither a map nor a tensor (code {code:#x})")
        length = self._unsigned(widths[code]) if code in widths else fixed[code]
        if struct.unpack("b", self._bytes(1))[0] != _NDARRAY:
            raise self.error("a value is no array")
        return length

    def _bin_size(self, code: int) -> int:
        if code not in (0xC4, 0xC5, 0xC6):
            raise self.error("the values of a tensor are no bytes")
        return self._unsigned(1 << (code - 0xC4))

    def _count(self, code: int) -> int:
        if code <= 0x7F:
            return code
        if code not in (0xCC, 0xCD, 0xCE, 0xCF):
            raise self.error("a shape is not of whole numbers")
        return self._unsigned(1 << (code - 0xCC))

    def _text(self, code: int) -> str:
        if 0xA0 <= code <= 0xBF:
            length = code & 0x1F
        elif code in (0xD9, 0xDA):
            length = self._unsigned(1 if code == 0xD9 else 2)
        else:
            raise self.error("a name is no text")
        if length > _LONGEST_NAME:
            raise self.error(f"a name has {length} bytes")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            raise self.error("a name is not UTF-8") from None
