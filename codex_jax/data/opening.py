"""Opens the files of a corpus, here or in a bucket, and tells what they are: the one place that does."""

import glob
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from codex_jax.data import advance, remote
from codex_jax.data.remote import Seen, is_remote
from codex_jax.errors import AssetError


_BLOCK_BYTES = 65_536


class Status(NamedTuple):
    """What a file is known by while it is not read: another one where it was written, replaced or copied."""

    size: int
    mtime_ns: int
    inode: int
    """of a file in a bucket a number made of its generation or ETag"""


def open_binary(path: str) -> BinaryIO:
    """Open a file to read its bytes; OSError when that cannot be done."""
    return remote.open_binary(path, remote.facts(path).seen) if is_remote(path) else open(path, "rb")


def open_seen(path: str, before: Seen) -> BinaryIO:
    """Open a file that was looked at before; AssetError, now or while it is read, when it is not what it was."""
    if is_remote(path):
        return remote.open_binary(path, before)
    if os.stat(path).st_size != before.size:
        raise changed(path, before.size)
    return open(path, "rb")


def look(path: str) -> Seen:
    """Return what of a file must not change; OSError when it is not there."""
    return remote.facts(path).seen if is_remote(path) else Seen(os.stat(path).st_size, 0)


def status_of(path: str) -> Status:
    """Return what a file is known by; OSError when it is not there."""
    if is_remote(path):
        facts = remote.facts(path)
        return Status(facts.seen.size, facts.mtime_ns, facts.seen.version)
    found = os.stat(path)
    return Status(found.st_size, found.st_mtime_ns, found.st_ino)


def size_of(path: str) -> int:
    """Return the size of a file in bytes; OSError when it is not there."""
    return look(path).size


def kind_of(path: str) -> str:
    """Return file, directory or other; empty where there is nothing. OSError when a bucket cannot be asked."""
    if is_remote(path):
        try:
            return "file" if remote.facts(path).is_file else "directory"
        except FileNotFoundError:
            return ""
    if os.path.isdir(path):
        return "directory"
    return "file" if os.path.isfile(path) else "other" if os.path.exists(path) else ""


def matches(pattern: str) -> list[str]:
    """Return the files that match a glob, sorted."""
    if is_remote(pattern):
        return remote.matches(pattern)
    return sorted(match for match in glob.glob(pattern, recursive=True) if os.path.isfile(match))


def absolute(path: str) -> str:
    """Return the path of a file from the root on."""
    return path if is_remote(path) else os.path.abspath(path)


def real(path: str) -> str:
    """Return the one path of a file that may have several."""
    return path if is_remote(path) else os.path.realpath(path)


def changed(path: str, size: int) -> AssetError:
    """Return the error for a file that is not what it was when the run began; here that is seen by its size."""
    if is_remote(path):
        return remote.changed(path)
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
            advance.note()
            yield block
