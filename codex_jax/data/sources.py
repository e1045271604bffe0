"""Where documents come from: the kinds of source by name, and how paths become a list of files."""

import glob
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from codex_jax import config
from codex_jax.data import hf, hub
from codex_jax.data.arrayrecord import ArrayRecordSource
from codex_jax.data.arrow import ArrowSource
from codex_jax.data.comma import CsvSource
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.jsonl import JsonlSource
from codex_jax.data.parquet import ParquetSource
from codex_jax.data.plain import PlainSource
from codex_jax.errors import AssetError, ConfigError
from codex_jax.registry import Registry


class Source(Protocol):
    """Reads files in units; each unit is read on its own, in any order."""

    suffixes: tuple[str, ...]
    """of the files that are taken from a directory"""
    is_text: bool
    """whether a file is UTF-8 from its first byte to its last"""

    def unit_bytes(self, data: config.Data) -> int:
        """Return the size of a unit, in bytes; it depends on nothing but the settings."""

    def read(self, file: BinaryIO, size: int, unit: int, data: config.Data) -> Iterator[Document | BadRow]:
        """Yield what unit number `unit` of the file holds."""


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
    holds the paths. Raises AssetError for a path that leads to no file, ConfigError for suffixes of different sources.
    """
    source = source.lower()
    if source == "stdlib" or (not source and not paths):
        return "stdlib", _standard_library()
    if source == "hf":
        source, files = "", [file for path in paths for file in _dataset(hf.place(path, key), key, split)]
    else:
        suffixes = SOURCES.get(source).suffixes if source else tuple(_BY_SUFFIX)
        files = [file for path in paths for file in _expand(path, suffixes, key)]
    if not source:
        kinds = {_BY_SUFFIX.get(Path(_PART.sub("", file.path)).suffix.lower(), "text"): file.path for file in files}
        if len(kinds) > 1:
            named = " and ".join(f"{path} ({kind})" for kind, path in sorted(kinds.items()))
            raise ConfigError(f"{key} mixes kinds of files: {named}; name one in data.source")
        source = next(iter(kinds))
    once: dict[str, File] = {}
    for file in files:
        once.setdefault(os.path.realpath(file.path), file)
    return source, list(once.values())


def _dataset(path: str, key: str, split: hf.Wanted) -> list[File]:
    rows = tuple(suffix for suffix, name in _BY_SUFFIX.items() if name != "text")
    if not os.path.isdir(path):
        return _expand(path, rows, key)
    if hf.is_saved(path):
        files = hf.saved(path, split)
    else:
        files = hub.files_of(path, [file.path for file in _expand(path, rows, key)], split)
    return [File(file, os.path.relpath(file, path)) for file in files]


def _expand(path: str, suffixes: tuple[str, ...], key: str) -> list[File]:
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        if ".arrow" in suffixes and hf.is_saved(path):
            raise ConfigError(f"{path} is a saved dataset, with an order and splits of its own: set data.source=hf")
        found = [File(file, os.path.relpath(file, path)) for file in _walk(path, suffixes)]
        if not found:
            raise AssetError(
                f"directory {path} holds no file ending in {', '.join(suffixes)}; name other files by a glob"
            )
    elif os.path.exists(path):
        if not os.path.isfile(path):
            raise AssetError(f"{path} is neither a file nor a directory; name a file in {key}")
        if os.path.getsize(path) == 0:
            raise AssetError(f"{path} is empty; fill it or leave it out of {key}")
        found = [File(path, os.path.basename(path))]
    elif glob.has_magic(path):
        matches = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
        if not matches:
            raise AssetError(f"no file matches {path}; correct {key}")
        root = os.path.dirname(path[: re.search(r"[*?[]", path).start()])  # type: ignore[union-attr]
        found = [File(match, os.path.relpath(match, root or ".")) for match in matches]
    else:
        raise AssetError(f"{path} does not exist; correct {key}")
    return found


def _walk(directory: str, suffixes: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[str]:
    found = []
    for parent, directories, names in os.walk(directory, onerror=_refuse):
        directories[:] = [name for name in directories if not name.startswith(".") and name not in skip]
        found += [os.path.join(parent, name) for name in names if _PART.sub("", name).lower().endswith(suffixes)]
    return sorted(path for path in found if os.path.basename(path)[0] != "." and os.path.isfile(path))


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
