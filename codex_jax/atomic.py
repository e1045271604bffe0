"""Change files so that a reader, or a crash at any moment, meets the old content or the new, never a part."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from codex_jax.errors import AssetError, CodexError, TrainingStopped


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new version of `path` for writing; it takes the place of the old one when the block ends without error.

    Raises TrainingStopped when the file system refuses (no room, read only); the old file is untouched then.
    """
    draft = path.with_name(path.name + ".tmp")
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync(path.parent)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise refused(path, error) from error
        raise


def write_once(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, unless it is there; of several who do so at once the first counts.

    Raises OSError when the file system refuses.
    """
    with contextlib.suppress(FileExistsError), tempfile.NamedTemporaryFile(dir=path.parent) as draft:
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
        os.link(draft.name, path)


def sync(path: Path) -> None:
    """Make a file, or the list of names in a directory, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refused(path: Path, error: OSError) -> TrainingStopped:
    """Return the error that tells a user which file could not be written, why, and what to do about it."""
    return TrainingStopped(
        f"cannot write {path}: {error.strerror or error}. What was written before is intact; "
        "make room or give write access, then run the same command again to go on"
    )


def unusable(path: Path, error: OSError) -> CodexError:
    """Return the error for a file that could be neither written nor read, when nobody knows which was meant."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return refused(path, error)
    return AssetError(f"cannot use {path}: {error.strerror or error}; correct the path or give access to it")
