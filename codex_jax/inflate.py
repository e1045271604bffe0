"""Reads what gzip and zstd have compressed, forwards and in bounded pieces: never into a file, never as a whole."""

import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from codex_jax import amounts


SUFFIXES = (".gz", ".zst")
# As much is given to a decoder at once. Four bytes of zstd can be a block of 128 KiB: 512 make 16 MiB at the most.
_FEED_BYTES = 512
# Whatever the ratio, so much more may come of any stretch of a file: a few rows that are all alike are no bomb.
_FREE_BYTES = 16 << 20
# What the program zstd grants without being asked, too. A frame may ask for 2 GiB of memory.
_MOST_WINDOW_BYTES = 128 << 20

# As much text at the beginning of a file tells how much there is of it in all.
_TELLING_BYTES = 1 << 20

Blocks = Callable[[], Iterator[bytes]]


class Damaged(Exception):
    """What follows in a compressed file cannot be read, or must not be."""

    def __init__(self, reason: str, position: int) -> None:
        """`position` is the first of the compressed bytes that were not read."""
        super().__init__(reason)
        self.position = position


def suffix_of(path: str) -> str:
    """Return .gz or .zst where the name of a file ends so, else nothing."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in SUFFIXES else ""


def name_inside(path: str) -> str:
    """Return what a file would be called if it were not compressed."""
    return path[: len(path) - len(suffix_of(path))]


def inflate(blocks: Blocks, suffix: str, most: float) -> Iterator[tuple[bytes, int]]:
    """Yield pieces of text, each with the number of compressed bytes that were read for it and all before it.

    `blocks` yields the compressed bytes from their beginning, each time it is called, in blocks of some KiB. Members
    and frames are read one after the other. Raises Damaged where the file is broken,
    after all that came before it, or where a stretch of it grows to more than `most` times its size and 16 MiB.
    """
    last, errors = 0, _errors(suffix)
    try:
        for text, last in _bounded(_decoded(blocks(), suffix, singly_from=None), most):
            if text:
                yield text, last
        return
    except errors as error:
        reason = _reason(error, suffix)
    # What a decoder makes of a piece before it fails is lost with it: that piece is given again, byte by byte.
    at = last
    try:
        for text, at in _bounded(_decoded(blocks(), suffix, singly_from=last), most):
            if text and at > last:
                yield text, at
    except errors:
        pass
    raise Damaged(reason, at)


def beginning(head: bytes, size: int, suffix: str, most: float) -> tuple[bytes, int]:
    """Return the text in the first bytes of a file, and about how much there is in all of its `size` bytes."""
    text, read, whole = bytearray(), 0, True
    pieces = inflate(lambda: iter([head]), suffix, most)
    try:
        while len(text) < _TELLING_BYTES and (piece := next(pieces, None)):
            text += piece[0]
            read = piece[1]
    except Damaged:
        whole = False  # the rest is not here, or the file is damaged, which is said when it is read
    if not read:
        return b"", 0 if whole else size
    return bytes(text), size * len(text) // read


def _decoded(blocks: Iterator[bytes], suffix: str, *, singly_from: int | None) -> Iterator[tuple[bytes, int]]:
    """Yield (text, compressed bytes read), for every piece that is fed, even without text."""
    decoder: Any = None
    at, begun = 0, False
    for piece in _fed(blocks, singly_from):
        at, rest = at + len(piece), piece
        while rest:
            if decoder is None and begun and suffix == ".gz" and not (rest := rest.lstrip(b"\0")):
                break  # gzip files may be filled up with zeros
            decoder, begun = decoder or _decoder(suffix), True
            text, rest = decoder.decompress(rest), decoder.unused_data
            yield text, at - len(rest)
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise Damaged(f"it was cut off: it ends in the middle of what {_NAMES[suffix]} wrote", at)


def _fed(blocks: Iterator[bytes], singly_from: int | None) -> Iterator[bytes]:
    """Yield the blocks in pieces, and as single bytes the piece that lies behind `singly_from`."""
    at = 0
    for block in blocks:
        for start in range(0, len(block), _FEED_BYTES):
            piece = block[start : start + _FEED_BYTES]
            at += len(piece)
            if singly_from is not None and at > singly_from:
                yield from (piece[byte : byte + 1] for byte in range(len(piece)))
            else:
                yield piece


def _bounded(pieces: Iterator[tuple[bytes, int]], most: float) -> Iterator[tuple[bytes, int]]:
    before, excess = 0, 0.0
    for text, at in pieces:
        excess = max(0.0, excess + len(text) - most * (at - before))
        if excess > _FREE_BYTES:
            raise Damaged(f"it grows to more than data.max_expansion={most:g} times its size and 16 MiB", at)
        before = at
        yield text, at


def _decoder(suffix: str) -> Any:
    if suffix == ".gz":
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES).decompressobj()


_NAMES = {".gz": "gzip", ".zst": "zstd"}


def _errors(suffix: str) -> type[Exception]:
    if suffix == ".gz":
        return zlib.error
    import zstandard

    return zstandard.ZstdError


def _reason(error: Exception, suffix: str) -> str:
    if "too much memory" in str(error):
        size = amounts.size(_MOST_WINDOW_BYTES)
        return f"it asks for a window of more than {size}; compress it again without --long or --ultra"
    return f"it is no whole {_NAMES[suffix]} file ({error})"
