"""Where documents come from: the kinds of source by name, and how paths become a list of files."""

import glob
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from codex_jax import config, inflate, schema
from codex_jax.data import hf, hub, opening, remote
from codex_jax.data.arrayrecord import ArrayRecordSource
from codex_jax.data.arrow import ArrowSource
from codex_jax.data.comma import CsvSource
from codex_jax.data.documents import BadRow, Document, Record
from codex_jax.data.jsonl import JsonlSource
from codex_jax.data.parquet import ParquetSource
from codex_jax.data.plain import PlainSource
from codex_jax.errors import AssetError, ConfigError
from codex_jax.registry import Registry


class Source(Protocol):
    """A kind of files. It is a Seeker, a Follower, or both: then compressed files are followed, all others sought in.

    A part of the entry-point group `codex_jax.sources` is an object like this. It is asked from several threads and
    processes at once, so it keeps nothing.
    """

    suffixes: tuple[str, ...]
    """of the files that are taken from a directory; those of a Follower also with .gz or .zst behind"""
    is_text: bool
    """whether a file is UTF-8 from its first byte to its last"""

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of a unit, in bytes; it depends on nothing but the settings."""


@runtime_checkable
class Seeker(Source, Protocol):
    """Reads files in units, which are ranges of their bytes; each unit is read on its own, in any order."""

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield what unit number `unit` of the file holds: every record of a file is in one unit and no other.

        `size` is that of the file, in bytes. What cannot be read is yielded as a BadRow whose reason does not quote it.
        """


@runtime_checkable
class Follower(Source, Protocol):
    """Reads files from their beginning to their end."""

    def follow(self, chunks: Iterator[bytes], data: config.Data) -> Iterator[Record]:
        """Yield, for each record of a file, what makes a document of it; for one that is passed over it is not called.

        `chunks` are all bytes of the file, decompressed, in pieces of any size. A record is yielded as soon as its last
        byte has come, before the next chunk is taken, and no more of the file is held than the chunk and the record at
        hand. Offsets count these bytes; documents and bad rows have their line. Where a file is damaged `chunks`
        raises: let it pass.
        """


class File(NamedTuple):
    """A file to read, and what it is called wherever the corpus lies."""

    path: str
    name: str


SOURCES: Registry[Source] = Registry("codex_jax.sources")
SOURCES.register("text", PlainSource(), source=__name__)
SOURCES.register("stdlib", PlainSource(), source=__name__)
SOURCES.register("jsonl", JsonlSource(), source=__name__)
SOURCES.register("csv", CsvSource(), source=__name__)
SOURCES.register("parquet", ParquetSource(), source=__name__)
SOURCES.register("arrayrecord", ArrayRecordSource(), source=__name__)
SOURCES.register("arrow", ArrowSource(), source=__name__)
SOURCES.register("hf", ArrowSource(), source=__name__)  # `find` says what its files are
# What a file's suffix says when data.source is empty; any other suffix is text.
_BY_SUFFIX = {
    suffix: name
    for name in ("text", "jsonl", "csv", "parquet", "arrayrecord", "arrow")
    for suffix in SOURCES.get(name).suffixes
}
# Behind the suffix, where a set was written in parts: books.array_record-00000-of-00008.
_PART = re.compile(r"-\d+-of-\d+$")


def find(source: str, paths: Sequence[str], key: str, split: hf.Wanted) -> tuple[str, list[File]]:
    """Return the source's name, chosen by the suffix of the files where `source` is empty, and its files in order.

    A path is a file, a directory (its files of the source's suffixes, at any depth, hidden ones left out) or a glob.
    With the source hf a directory is a dataset, of which the files of `split` are taken. `key` is the setting that
    holds the paths. Raises AssetError for a path that leads to no file, ConfigError for suffixes of different sources,
    for a source that does not exist, and for one of files without paths.
    """
    source = source.lower()
    if source == "stdlib" or (not source and not paths):
        return "stdlib", _standard_library()
    _check(source, paths, key)
    if source == "hf":
        source, files = "", [file for path in paths for file in _dataset(hf.place(path, key), key, split)]
    else:
        suffixes = SOURCES.get(source).suffixes if source else tuple(_BY_SUFFIX)
        files = [file for path in paths for file in _expand(path, suffixes, key)]
    if not source:
        kinds = {_BY_SUFFIX.get(_suffix(file.path), "text"): file.path for file in files}
        if len(kinds) > 1:
            named = " and ".join(f"{path} ({kind})" for kind, path in sorted(kinds.items()))
            raise ConfigError(f"{key} mixes kinds of files: {named}; name one in data.source")
        source = next(iter(kinds))
    if not isinstance(SOURCES.get(source), Follower):
        for file in files:
            if inflate.suffix_of(file.path):
                raise AssetError(f"{file.path} is compressed, which data.source={source} cannot read: decompress it")
    once: dict[str, File] = {}
    for file in files:
        once.setdefault(opening.real(file.path), file)
    return source, list(once.values())


def _check(source: str, paths: Sequence[str], key: str) -> None:
    section = key.rpartition(".")[0] or "data"
    if source and source not in (names := SOURCES.names()):
        near = schema.nearest(source, names)
        raise ConfigError(f"{section}.source={source} does not exist{near}; there are: {', '.join(names)}")
    if not paths:
        raise ConfigError(f"{section}.source={source} reads files: name them in {key}")


def _dataset(path: str, key: str, split: hf.Wanted) -> list[File]:
    rows = tuple(suffix for suffix, name in _BY_SUFFIX.items() if name != "text")
    if opening.kind_of(path) != "directory":
        return _expand(path, rows, key)
    if opening.is_remote(path):
        raise ConfigError(f"datasets are read from here: copy {path}, or name its files by a glob")
    if hf.is_saved(path):
        files = hf.saved(path, split)
    else:
        files = hub.files_of(path, [file.path for file in _expand(path, rows, key)], split)
    return [File(file, os.path.relpath(file, path)) for file in files]


def following(source: str) -> Follower:
    """Return the source that reads files from their beginning."""
    found = SOURCES.get(source)
    if not isinstance(found, Follower):
        raise ConfigError(f"data.source={source} has neither `read` nor `follow`: it can read no file")
    return found


def _suffix(path: str) -> str:
    return Path(_PART.sub("", inflate.name_inside(path))).suffix.lower()


def _is_one(name: str, suffixes: tuple[str, ...]) -> bool:
    return _PART.sub("", inflate.name_inside(name)).lower().endswith(suffixes)


def _expand(path: str, suffixes: tuple[str, ...], key: str) -> list[File]:
    path = os.path.expanduser(path)
    try:
        return _found(path, opening.kind_of(path), suffixes, key)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error


def _found(path: str, kind: str, suffixes: tuple[str, ...], key: str) -> list[File]:
    if kind == "directory":
        if ".arrow" in suffixes and hf.is_saved(path):
            raise ConfigError(f"{path} is a saved dataset, with an order and splits of its own: set data.source=hf")
        files = [File(file, os.path.relpath(file, path)) for file in _walk(path, suffixes)]
        if not files:
            raise AssetError(
                f"directory {path} holds no file ending in {', '.join(suffixes)}; name other files by a glob"
            )
        return files
    if kind == "other":
        raise AssetError(f"{path} is neither a file nor a directory; name a file in {key}")
    if kind == "file":
        if opening.status_of(path).size == 0:
            raise AssetError(f"{path} is empty; fill it or leave it out of {key}")
        return [File(path, os.path.basename(path))]
    if not glob.has_magic(path):
        raise AssetError(f"{path} does not exist; correct {key}")
    matches = opening.matches(path)
    if not matches:
        raise AssetError(f"no file matches {path}; correct {key}")
    root = os.path.dirname(path[: re.search(r"[*?[]", path).start()])  # type: ignore[union-attr]
    return [File(match, os.path.relpath(match, root or ".")) for match in matches]


def _walk(directory: str, suffixes: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[str]:
    if opening.is_remote(directory):
        return [path for path in remote.below(directory) if _is_one(path, suffixes)]
    found = []
    for parent, directories, names in os.walk(directory, onerror=_refuse):
        directories[:] = [name for name in directories if not name.startswith(".") and name not in skip]
        found += [os.path.join(parent, name) for name in names if name[0] != "." and _is_one(name, suffixes)]
    return sorted(path for path in found if os.path.isfile(path))


def _standard_library() -> list[File]:
    """Return the sources of the running interpreter's library that are UTF-8.

    PEP 263 lets a file choose another encoding: a handful of the library's own tests do, some broken on purpose.
    """
    root = sysconfig.get_path("stdlib")
    # encodings/ is generated tables of code points: a twentieth of the text, and nothing to learn from.
    paths = _walk(root, (".py",), skip=("site-packages", "dist-packages", "__pycache__", "encodings"))
    return [File(path, os.path.relpath(path, root)) for path in paths if _is_utf8(path)]


def _is_utf8(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read().decode()
    except UnicodeDecodeError:
        return False
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    return True


def _refuse(error: OSError) -> None:
    raise AssetError(f"directory {error.filename} cannot be read: {error.strerror}") from error
