"""A corpus: a list of files, seen as a row of units that can be read in any order.

Nothing is kept per document or unit, only a few numbers per file, so memory does not grow with the size of the files.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from codex_jax import config
from codex_jax.data import hf, sources
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.sources import File
from codex_jax.errors import AssetError


# As much of both ends of each file as goes into the fingerprint. Smaller files are covered whole.
_SAMPLE_BYTES = 65_536
# Every other byte of Latin text in UTF-16 is zero, and every blank and line end of any text; UTF-8 has none.
_MOST_ZEROS = 0.05


class Entry(NamedTuple):
    """Something read from a file of the corpus."""

    file: int
    row: Document | BadRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Files that are one source of documents, and, where data.validation_paths names them, those to validate on."""

    source: str
    files: tuple[File, ...]
    sizes_F: np.ndarray
    """int64, bytes of each file"""
    ends_F: np.ndarray
    """int64, units of each file and all before it"""
    fingerprint: str
    """SHA-256 over name, size and both ends of every file; what lies between them in files above 128 KiB is not read"""
    validation: "Corpus | None"

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return int(self.sizes_F.sum())

    @property
    def num_units(self) -> int:
        """Units of all files."""
        return int(self.ends_F[-1])

    def read(self, units: Iterable[int], data: config.Data) -> Iterator[Entry]:
        """Yield what these units hold, in their order; AssetError when a file is not what it was."""
        reader = sources.SOURCES.get(self.source)
        for unit in units:
            index = int(np.searchsorted(self.ends_F, unit, side="right"))
            size = int(self.sizes_F[index])
            path = self.files[index].path
            try:
                with open(path, "rb") as file:
                    if os.fstat(file.fileno()).st_size != size:
                        raise AssetError(f"{path} has changed: it had {size} bytes when the run began")
                    before = int(self.ends_F[index - 1]) if index else 0
                    for row in reader.read(file, size, unit - before, data):
                        yield Entry(index, row)
            except OSError as error:
                raise AssetError(f"{path} cannot be read: {error.strerror}") from error


def open_corpus(data: config.Data, key: str) -> Corpus:
    """Find the files of the corpus and look at both ends of each; `key` is what its settings are called.

    Raises AssetError for what is missing, empty, unreadable or not UTF-8 at all, ConfigError for an unknown source.
    """
    validation = None
    if data.validation_paths:
        # Without paths data.source says what is trained on: the standard library.
        kind = data.source if data.paths else ""
        name = f"{key}.validation_paths"
        split = hf.Wanted("", "validation", f"name the directory or the files of one in {name}")
        validation = _open(sources.find(kind, data.validation_paths, name, split), name, data, None)
    split = hf.Wanted(data.split_name, "train", f"name one in {key}.split_name")
    found = sources.find(data.source, data.paths, f"{key}.paths", split)
    return _open(found, f"{key}.paths", data, validation)


def _open(found: tuple[str, list[File]], key: str, data: config.Data, validation: Corpus | None) -> Corpus:
    source, files = found
    reader = sources.SOURCES.get(source)
    total = hashlib.sha256(source.encode())
    kept, sizes = [], []
    for file in files:
        size, ends = _look(file.path, is_text=reader.is_text)
        if size:  # an empty file of a directory holds no document
            kept.append(file)
            sizes.append(size)
            line = f"\n{file.name}\0{size}\0{hashlib.sha256(ends).hexdigest()}"
            total.update(line.encode("utf-8", "surrogateescape"))
    if not kept:
        raise AssetError(f"all {len(files)} files of {key} are empty; name others")
    sizes_F = np.array(sizes, np.int64)
    return Corpus(
        source=source,
        files=tuple(kept),
        sizes_F=sizes_F,
        ends_F=np.cumsum(-(-sizes_F // reader.unit_bytes(data))),
        fingerprint=total.hexdigest(),
        validation=validation,
    )


def _look(path: str, *, is_text: bool) -> tuple[int, bytes]:
    """Return the size of a file and its two ends."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_SAMPLE_BYTES)
            file.seek(max(size - _SAMPLE_BYTES, len(head)))
            ends = head + file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    if not is_text:
        return size, ends
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AssetError(f"{path} is UTF-16 or UTF-32; convert it to UTF-8")
    if (zeros := head.count(0)) > _MOST_ZEROS * len(head):
        raise AssetError(
            f"{zeros} of the first {len(head)} bytes of {path} are NUL: it is UTF-16, UTF-32 or no text; convert it to "
            "UTF-8, or leave it out"
        )
    return size, ends
