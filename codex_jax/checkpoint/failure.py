"""One readable sentence about a save that failed, out of the many tracebacks of those who failed."""

import errno
import os
import shutil
from pathlib import Path

from codex_jax import amounts
from codex_jax.errors import CodexError, TrainingStopped


# TensorStore reports these as text inside a ValueError; the texts are those of the C library.
_KNOWN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT)
_ADVICE = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "make the disk writable",
    errno.EACCES: "give write access to it",
    errno.EPERM: "give write access to it",
    errno.EIO: "check the disk",
    errno.ENOENT: "find out who removed the directory",
}


class NotFinite(CodexError):
    """The state to be saved holds NaN or infinite values."""


def stopped(directory: Path, needed: int, error: Exception) -> TrainingStopped:
    """Return the error that ends training because a checkpoint, of about `needed` bytes, was not saved."""
    if isinstance(error, NotFinite):
        return TrainingStopped(
            f"the checkpoint {directory} was not saved: {error}. Older checkpoints are untouched; look at the data of "
            "the steps since then, or train in another --workdir with a lower optimizer.learning_rate"
        )
    way_out = "run the same command again to go on from the newest"
    return TrainingStopped(f"{_unsaved(directory, needed, error)} and {way_out}")


def tolerated(directory: Path, needed: int, error: Exception) -> str:
    """Return what is said when training goes on although a checkpoint was not saved."""
    return f"{_unsaved(directory, needed, error)}. Training goes on, and the next checkpoint is tried again"


def _unsaved(directory: Path, needed: int, error: Exception) -> str:
    return (
        f"the checkpoint {directory} could not be saved: {_reason(error)}. It needs {amounts.size(needed)}, and "
        f"{_free(directory)} are free there. Older checkpoints are untouched; "
        f"{_ADVICE.get(_number(error), 'see to that')}"
    )


def after_save(directory: Path, error: Exception) -> TrainingStopped:
    """Return the error that ends training because what follows a save, which is complete, went wrong."""
    advice = _ADVICE.get(_number(error), "see to that")
    return TrainingStopped(
        f"the checkpoint {directory} is saved, but recording it or deleting older ones failed: {_reason(error)}. "
        f"Nothing is lost; {advice} and run the same command again"
    )


def check_room(directory: Path, needed: int) -> None:
    """Raise OSError if the disk of an existing directory has less than `needed` bytes left, before they are written."""
    if shutil.disk_usage(directory).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _reason(error: Exception) -> str:
    if isinstance(error, CodexError):
        return str(error)
    number = _number(error)
    return os.strerror(number) if number else f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _number(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return next((number for number in _KNOWN if os.strerror(number) in str(error)), 0)


def _free(directory: Path) -> str:
    existing = next(path for path in directory.absolute().parents if path.is_dir())
    return amounts.size(shutil.disk_usage(existing).free)
