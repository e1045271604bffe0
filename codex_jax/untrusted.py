"""A small file that somebody else wrote: read whole or refused, whatever is in it or in the place of it."""

import collections
import json
import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codex_jax.errors import AssetError


# Far above what any file of a model or a tokenizer has, far below what Python's stack holds.
_DEEPEST = 64


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Return what is in a file of at most so many bytes; AssetError when there is another thing in its place.

    OSError when it cannot be opened. What is no file is never opened: a pipe would be waited for.
    """
    check_size(path, most_bytes)
    with open(path, "rb") as file:
        return file.read(most_bytes)


def check_size(path: Path, most_bytes: int) -> None:
    """Raise AssetError unless there is a regular file of at most so many bytes; OSError when there is nothing."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise AssetError(f"{path} is no regular file")
    if found.st_size > most_bytes:
        raise AssetError(f"{path} has {found.st_size:,} bytes; a file of this name has at most {most_bytes:,}")


def read_text(path: Path, most_bytes: int) -> str:
    """Return the text of a file; raises as `read_bytes` does, and AssetError when it is not UTF-8."""
    try:
        return read_bytes(path, most_bytes).decode()
    except UnicodeDecodeError as error:
        raise AssetError(f"{path} is not UTF-8 at byte {error.start}; fetch it again") from error


def read_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """Return the JSON object in a file; raises as `read_bytes` and `parse_object` do."""
    return parse_object(read_bytes(path, most_bytes), str(path))


def parse_object(text: str | bytes, place: str) -> dict[str, Any]:
    """Return the object of a text, every key in it once, every number finite, and not nested deep.

    AssetError, which names `place`, when it is something else.
    """
    try:
        plain = text if isinstance(text, str) else text.decode()
        found = json.loads(plain, object_pairs_hook=_unique, parse_constant=_number, parse_float=_number)
        if not isinstance(found, dict):
            raise ValueError("it is a list, a text or a number")
        _check_depth(found)
    except (ValueError, RecursionError) as error:
        raise AssetError(f"{place} is not a JSON object ({error}); fetch it again, or correct it") from error
    return found


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        raise ValueError(f"{next(name for name in counts if counts[name] > 1)!r:.80} is in it twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is in it, which is no finite number")
    return value


def _check_depth(found: dict[str, Any]) -> None:
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} deep")
