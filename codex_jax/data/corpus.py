"""A corpus: a list of files, seen as a row of units that can be read in any order.

Nothing is kept per document or unit, only a few numbers per file, so memory does not grow with the size of the files.
Some files are tapes: any order is possible there too, but only forwards costs no more than what is read.
"""

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from codex_jax import amounts, config, inflate
from codex_jax.data import hf, labels, opening, sources
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.sources import File
from codex_jax.data.tape import Slot, Tape
from codex_jax.errors import AssetError, ConfigError


# As much of both ends of each file as goes into the fingerprint. Smaller files are covered whole.
_SAMPLE_BYTES = 65_536
# Of files in buckets, where each look takes three round trips.
_LOOKS_AT_ONCE = 16
# Every other byte of Latin text in UTF-16 is zero, and every blank and line end of any text; UTF-8 has none.
_MOST_ZEROS = 0.05
_TEXT = {"text", "stdlib"}
_ROWS = {"jsonl", "csv", "parquet", "arrayrecord", "arrow"}
_DEFAULTS = config.Data()


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
    """int64, bytes of each file as it is on disk"""
    versions_F: np.ndarray
    """int64, what else than its size tells whether a file in a bucket is what it was; 0 for others"""
    texts_F: np.ndarray
    """int64, bytes of text of each file; estimated from its beginning where it is compressed"""
    ends_F: np.ndarray
    """int64, units of each file and all before it"""
    fingerprint: str
    """SHA-256 over name, size and both ends of every file; what lies between them in files above 128 KiB is not read"""
    validation: "Corpus | None"
    _slot: Slot = dataclasses.field(default_factory=Slot, init=False, repr=False, compare=False)

    @property
    def num_bytes(self) -> int:
        """Bytes of text of all files."""
        return int(self.texts_F.sum())

    @property
    def is_compressed(self) -> bool:
        """Whether one of the files is."""
        return any(inflate.suffix_of(file.path) for file in self.files)

    @property
    def in_order(self) -> bool:
        """Whether the units of a file are to be read in their order: one of the files is a tape."""
        return self.is_compressed or not isinstance(sources.SOURCES.get(self.source), sources.Seeker)

    @property
    def num_units(self) -> int:
        """Units of all files."""
        return int(self.ends_F[-1])

    def read(self, units: Iterable[int], data: config.Data) -> Iterator[Entry]:
        """Yield what these units hold, in their order; AssetError when a file is not what it was."""
        source = sources.SOURCES.get(self.source)
        seeker = source if isinstance(source, sources.Seeker) else None
        for unit in units:
            index = int(np.searchsorted(self.ends_F, unit, side="right"))
            before = int(self.ends_F[index - 1]) if index else 0
            path = self.files[index].path
            try:
                if seeker is None or inflate.suffix_of(path):
                    rows = self._tape(index, unit - before, data).read(unit - before)
                else:
                    rows = _sought(seeker, path, self._seen(index), unit - before, data)
                for row in rows:
                    yield Entry(index, labels.of_file(row, path, data))
            except OSError as error:
                raise AssetError(f"{path} cannot be read: {error.strerror}") from error

    def paths(self, units: Iterable[int]) -> list[str]:
        """Return the files that these units lie in."""
        return [self.files[int(np.searchsorted(self.ends_F, unit, side="right"))].path for unit in units]

    def _tape(self, index: int, unit: int, data: config.Data) -> Tape:
        """Return the tape in use if it can go on to the unit, else a new one."""
        path, found = self.files[index].path, self._slot.tape
        if found is None or found.path != path or found.data is not data or found.next > unit:
            num_units = int(np.diff(self.ends_F, prepend=0)[index])
            found = Tape(path, self._seen(index), num_units, sources.following(self.source), data)
        self._slot.tape = found
        return found

    def _seen(self, index: int) -> opening.Seen:
        return opening.Seen(int(self.sizes_F[index]), int(self.versions_F[index]))


def _sought(
    source: sources.Seeker, path: str, seen: opening.Seen, unit: int, data: config.Data
) -> Iterator[Document | BadRow]:
    with opening.open_seen(path, seen) as file:
        yield from source.read(file, seen.size, unit, data)


def open_corpus(data: config.Data, key: str, called: str = "") -> Corpus:
    """Find the files of the corpus and look at both ends of each.

    `key` is what its settings are called, `called` what data.paths are where they were not given as a setting.

    Raises AssetError for what is missing, empty, unreadable or not UTF-8 at all, ConfigError for an unknown source and
    for settings that no file of this one reads.
    """
    labels.check(data)
    validation = None
    if data.validation_paths:
        # Without paths data.source says what is trained on: the standard library.
        kind = data.source if data.paths else ""
        name = f"{key}.validation_paths"
        split = hf.Wanted("", "validation", f"name the directory or the files of one in {name}")
        validation = _open(sources.find(kind, data.validation_paths, name, split), name, data, None)
    name = called or f"{key}.paths"
    split = hf.Wanted(data.split_name, "train", f"name one in {key}.split_name")
    made = _open(sources.find(data.source, data.paths, name, split), name, data, validation)
    _refuse_ignored(data, key, {one.source for one in (made, validation) if one})
    return made


def _refuse_ignored(data: config.Data, key: str, kinds: set[str]) -> None:
    """Raise ConfigError for settings that sources of these kinds do not read; one of another package may read all."""
    if kinds - _TEXT - _ROWS:
        return
    ignored = [] if data.source.lower() == "hf" else ["split_name"]
    if not kinds & _TEXT:
        ignored.append("document")
    if not kinds & _ROWS:
        ignored.append("text_field")
    has_fields = kinds & _ROWS and (kinds != {"arrayrecord"} or data.text_field)
    if not has_fields or data.objective == "classes":
        ignored += ["prompt_field", "completion_field", "messages_field"]
    if not has_fields or data.objective != "classes":
        ignored.append("label_field")
    changed = [name for name in ignored if getattr(data, name) != getattr(_DEFAULTS, name)]
    if changed:
        named = " and ".join(f"{key}.{name}={getattr(data, name)}" for name in changed)
        raise ConfigError(f"no file of data.source={'/'.join(sorted(kinds))} is read by {named}: leave that out")


def _open(found: tuple[str, list[File]], key: str, data: config.Data, validation: Corpus | None) -> Corpus:
    source, files = found
    reader = sources.SOURCES.get(source)
    total = hashlib.sha256(source.encode())
    kept, seen, texts = [], [], []
    with concurrent.futures.ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        looks = list(pool.map(lambda file: _look(file.path, data, is_text=reader.is_text), files))
    for file, look in zip(files, looks, strict=True):
        if look.text:  # an empty file of a directory holds no document
            kept.append(file)
            seen.append(look.seen)
            texts.append(look.text)
            line = f"\n{_name(file, source, data)}\0{look.seen.size}\0{look.ends}"
            total.update(line.encode("utf-8", "surrogateescape"))
    if not kept:
        raise AssetError(f"all that {key} names is empty ({amounts.counted(len(files), 'file')}); name others")
    sizes_F, versions_F = np.array(seen, np.int64).T
    texts_F = np.array(texts, np.int64)
    return Corpus(
        source=source,
        files=tuple(kept),
        sizes_F=sizes_F,
        versions_F=versions_F,
        texts_F=texts_F,
        ends_F=np.cumsum(-(-texts_F // reader.unit_bytes(data))),
        fingerprint=total.hexdigest(),
        validation=validation,
    )


def _name(file: File, source: str, data: config.Data) -> str:
    """Return what a file is called in the fingerprint: with its directory, where that is the class of what it holds."""
    if data.objective != "classes" or (source in _ROWS and data.text_field):
        return file.name
    return f"{labels.directory(file.path)}/{file.name}"


class _Look(NamedTuple):
    seen: opening.Seen
    text: int
    """bytes of text; an estimate where the file is compressed and large"""
    ends: str
    """SHA-256 of both"""


def _look(path: str, data: config.Data, *, is_text: bool) -> _Look:
    """Look at the two ends of a file; AssetError when it cannot be read or is no UTF-8 from the start."""
    try:
        seen = opening.look(path)
        with opening.open_seen(path, seen) as file:
            head = file.read(_SAMPLE_BYTES)
            file.seek(max(seen.size - _SAMPLE_BYTES, len(head)))
            ends = head + file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    text = seen.size
    if suffix := inflate.suffix_of(path):
        head, text = inflate.beginning(head, seen.size, suffix, data.max_expansion)
    if is_text:
        _check_encoding(path, head[:_SAMPLE_BYTES])
    return _Look(seen, text, hashlib.sha256(ends).hexdigest())


def _check_encoding(path: str, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AssetError(f"{path} is UTF-16 or UTF-32; convert it to UTF-8")
    if (zeros := head.count(0)) > _MOST_ZEROS * len(head):
        raise AssetError(
            f"{zeros} of the first {len(head)} bytes of {path} are NUL: it is UTF-16, UTF-32 or no text; convert it to "
            "UTF-8, or leave it out"
        )
