"""Line numbers of byte offsets, for the rows that cannot be read: each part of a file is counted once."""

from codex_jax.data import opening
from codex_jax.errors import AssetError


_STRIDE_BYTES = 1 << 20
# A line behind it has no number, so that a first bad row far into a huge file does not wait for all that is before it.
_COUNTED_BYTES = 1 << 30


class Lines:
    """Counts line ends and remembers eight bytes for each MiB; belongs to one thread."""

    def __init__(self) -> None:
        self._ends: dict[str, list[int]] = {}  # line ends before each multiple of the stride
        self._last = ("", 0, 0)

    def number(self, path: str, offset: int) -> int | None:
        """Return the line at a byte of a file, from 1; None behind the first GiB, and where the file is in a bucket.

        AssetError when it cannot be read.
        """
        if offset > _COUNTED_BYTES or opening.is_remote(path):
            return None  # for a number nobody waits, nor pays, for all that lies before it
        ends = self._ends.setdefault(path, [0])
        try:
            with open(path, "rb") as file:
                file.seek((len(ends) - 1) * _STRIDE_BYTES)
                while len(ends) * _STRIDE_BYTES <= offset:
                    ends.append(ends[-1] + file.read(_STRIDE_BYTES).count(b"\n"))
                stride = offset // _STRIDE_BYTES
                at, count = stride * _STRIDE_BYTES, ends[stride]
                if self._last[0] == path and at <= self._last[1] <= offset:
                    at, count = self._last[1:]  # rows of a unit come in rising order
                file.seek(at)
                count += file.read(offset - at).count(b"\n")
        except OSError as error:
            raise AssetError(f"{path} cannot be read: {error.strerror}") from error
        self._last = (path, offset, count)
        return count + 1
