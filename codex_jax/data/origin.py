"""The files a store was made of: what they were, and whether they still are."""

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from codex_jax import digest
from codex_jax.data import opening
from codex_jax.data.corpus import Corpus
from codex_jax.errors import AssetError


T = TypeVar("T")
R = TypeVar("R")


class Origin(NamedTuple):
    """A file as it was seen: while size, time and inode stay the same, so does its content."""

    name: str
    path: str
    bytes: int
    mtime_ns: int
    inode: int
    sha256: str = ""
    """empty while the file has only been looked at"""

    @property
    def status(self) -> tuple[int, int, int]:
        """What differs when a file has been written, replaced or copied."""
        return self.bytes, self.mtime_ns, self.inode


def look(corpora: Sequence[Corpus]) -> list[Origin]:
    """Return the files of some corpora, unread, in their order."""
    return [_look(file.name, file.path) for corpus in corpora for file in corpus.files]


def read(origins: Sequence[Origin]) -> list[Origin]:
    """Return the files with their SHA-256; AssetError when one is no longer what it was when it was looked at."""

    def digested(origin: Origin) -> Origin:
        found = _look(origin.name, origin.path)._replace(sha256=_digest(origin.path))
        if found.status != origin.status or _look(origin.name, origin.path).status != origin.status:
            raise AssetError(f"{origin.path} has changed while it was read; run the command again")
        return found

    return in_threads(digested, origins)


def differences(before: Sequence[Origin], now: Sequence[Origin]) -> list[str]:
    """Return what is not as it was, a line a file; only files of another size, time or inode are read."""
    names, others = [origin.name for origin in before], [origin.name for origin in now]
    if names != others:
        gone = [f"{name}: not among the files any more" for name in sorted({*names} - {*others})]
        more = [f"{name}: was not among the files" for name in sorted({*others} - {*names})]
        return gone + more or ["the files come in another order, or one comes more often"]
    suspects = [(old, new) for old, new in zip(before, now, strict=True) if old.status != new.status]
    return [line for line in in_threads(_difference, suspects) if line]


def damages(origins: Sequence[Origin]) -> list[str]:
    """Return which files are gone or have another content, a line a file; all of them are read."""

    def damage(origin: Origin) -> str:
        try:
            return _difference((origin, _look(origin.name, origin.path)))
        except AssetError as error:
            return str(error)

    return [line for line in in_threads(damage, origins) if line]


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return the results in order. Digests release the interpreter, so that threads are as good as processes."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _difference(pair: tuple[Origin, Origin]) -> str:
    old, new = pair
    if old.bytes != new.bytes:
        return f"{new.path}: {new.bytes} bytes, {old.bytes} when the store was built"
    if (found := _digest(new.path)) != old.sha256:
        return f"{new.path}: SHA-256 {found[:12]}..., {old.sha256[:12]}... when the store was built"
    return ""


def _look(name: str, path: str) -> Origin:
    try:
        status = opening.status_of(path)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    return Origin(name, opening.absolute(path), *status)


def _digest(path: str) -> str:
    try:
        with opening.open_binary(path) as file:
            return digest.of_open(file)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
