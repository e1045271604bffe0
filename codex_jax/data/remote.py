"""Files in buckets: gs:// and s3://, listed, looked at and read by ranges through fsspec, and only where it is allowed.

The units of a stream are small and far apart, those of a store follow each other: a file is read by blocks, small ones
at first and larger ones as long as each begins where the last one ended.
"""

import contextlib
import errno
import functools
import hashlib
import importlib
import io
import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, cast

from codex_jax.errors import AssetError, ConfigError


NETWORK = "CODEX_ALLOW_NETWORK"
# The package of each scheme, and the extra that brings it along.
_PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")
# A unit of JSON lines and the rest of its last one; a request costs as much time as some 100 KiB do.
_BLOCK_BYTES = 131_072
_MOST_BLOCK_BYTES = 8 << 20


class Seen(NamedTuple):
    """What of a file must not change while it is in use."""

    size: int
    version: int
    """of a file in a bucket a number made of its generation or ETag: another one for another content; 0 for others"""


class Facts(NamedTuple):
    """What a bucket says of an object."""

    is_file: bool
    seen: Seen
    mtime_ns: int


def is_remote(path: str) -> bool:
    """Whether a path is one of a bucket; ConfigError for any other address."""
    found = _SCHEME.match(path)
    if found and found[1] not in _PACKAGES:
        raise ConfigError(f"{path} is no file, nor in a bucket of gs:// or s3://: copy it here and name the copy")
    return found is not None


def facts(path: str) -> Facts:
    """Return what there is at a path, file or directory; OSError when there is nothing, or it cannot be asked for."""
    system = _system(path)
    with _named(path):
        found = system.info(path)
    changed = found.get("LastModified") or found.get("mtime")
    version = str(found.get("generation") or found.get("ETag") or "")
    number = int.from_bytes(hashlib.sha256(version.encode()).digest()[:7], "big")
    return Facts(
        found["type"] == "file",
        Seen(int(found["size"] or 0), number),
        int(changed.timestamp()) * 10**9 if isinstance(changed, datetime) else 0,
    )


def below(directory: str) -> list[str]:
    """Return the files below a directory at any depth, hidden ones left out, sorted."""
    system = _system(directory)
    with _named(directory):
        return _paths(system.find(directory), directory)


def matches(pattern: str) -> list[str]:
    """Return the files that match a glob, hidden ones left out, sorted."""
    system = _system(pattern)
    with _named(pattern):
        found = system.glob(pattern, detail=True)
    root = os.path.dirname(re.split(r"[*?[]", pattern)[0])
    return _paths([name for name, about in found.items() if about["type"] == "file"], root)


def open_binary(path: str, seen: Seen) -> BinaryIO:
    """Open a file to read its bytes; reading raises AssetError when it is not what it was when it was seen."""
    return cast(BinaryIO, io.BufferedReader(_Blocks(path, seen), _BLOCK_BYTES))


def changed(path: str) -> AssetError:
    """Return the error for a file that is not what it was when the run began."""
    return AssetError(f"{path} has changed: it was written anew since the run began")


class _Last(threading.local):
    """The block that a thread has read last. It outlives its file: the next unit may begin in it."""

    file: tuple[str, Seen] | None = None
    begin = 0
    content = b""
    size = 0
    """of what was fetched: the content may begin with the end of the block before"""


_last = _Last()


class _Blocks(io.RawIOBase):
    """A file of a bucket."""

    def __init__(self, path: str, seen: Seen) -> None:
        super().__init__()
        self.name = path
        self._seen, self._at = seen, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._seen.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._seen.size:
            return 0
        end = _last.begin + len(_last.content)
        if _last.file != (self.name, self._seen) or not _last.begin <= self._at < end:
            self._fetch(follows=_last.file == (self.name, self._seen) and self._at == end)
        part = memoryview(_last.content)[self._at - _last.begin :][: len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _fetch(self, *, follows: bool) -> None:
        """Read the block that begins here, larger than the last one if it `follows` it.

        The end of that one is kept: where a unit begins, what came before it is looked at once more.
        """
        size = min(2 * _last.size, _MOST_BLOCK_BYTES) if follows else _BLOCK_BYTES
        before = _last.content[-_BLOCK_BYTES:] if follows else b""
        end = min(self._at + size, self._seen.size)
        if facts(self.name).seen != self._seen:
            raise changed(self.name)
        system = _system(self.name)
        with _named(self.name):
            content = system.cat_file(self.name, start=self._at, end=end)
        if len(content) != end - self._at:
            raise OSError(errno.EIO, f"{len(content)} bytes came of {end - self._at}", self.name)
        _last.file, _last.size = (self.name, self._seen), size
        _last.begin, _last.content = self._at - len(before), before + content


def _system(path: str) -> Any:
    """Return the file system of a path; ConfigError where the network is off or a package is missing."""
    scheme = path.split("://")[0]
    package, extra = _PACKAGES[scheme]
    if os.environ.get(NETWORK) != "1":
        raise ConfigError(f"{path} is on the network, which is off: set {NETWORK}=1 to read it, or copy it here")
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"{path} needs {package}: pip install 'codex-jax[{extra}]' ({error})") from error
    with _named(path):
        return file_system(scheme)


@functools.cache
def file_system(scheme: str) -> Any:
    """Return the one file system of a scheme in this process, for all its threads."""
    import fsspec

    # Without its cache of listings a file that is written meanwhile is seen to have changed.
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn what any of the client libraries raises into an OSError with a reason; each has errors of its own."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or f"{type(error).__name__}: {error}"
        if isinstance(error, FileNotFoundError):
            reason = "No such file or directory"
        raise OSError(error.errno or _number(error), reason, path) from error
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", path) from error


def _number(error: OSError) -> int:
    """Return the number that makes an OSError of the same kind."""
    return {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}.get(type(error), errno.EIO)


def _paths(found: list[str], root: str) -> list[str]:
    """Return names, which were found without their scheme, as paths, but for what is hidden below `root`."""
    scheme, path = root.split("://")
    shown = [name for name in found if "/." not in name[len(path.rstrip("/")) :]]
    return sorted(f"{scheme}://{name}" for name in shown)
