"""The manifest of a directory: each file with its size and SHA-256, so that a changed bit is found before it is used.

    {"files": [{"bytes": 12609, "path": "state/_METADATA", "sha256": "6c1f..."}, ...], "format": 1, "root": "93ab..."}

`root` is the digest of the list itself. This finds damage; it does not stop a forger, who can write a new manifest.
"""

import concurrent.futures
import dataclasses
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from codex_jax import atomic, digest
from codex_jax.errors import AssetError


NAME = "manifest.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 64 * 2**20  # some 400,000 files; a larger one is not ours, and is not read into memory
MAX_PATH_BYTES, MAX_PART_BYTES = 1024, 255
MAX_LISTED_PROBLEMS = 10

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTIAL = NAME + ".partial"
T = TypeVar("T")
R = TypeVar("R")


class Damaged(AssetError):
    """A directory is not as its manifest lists it."""

    problems: list[str]
    """one for each file that is wrong; the message has the first few"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of a directory."""

    path: str
    """relative to the directory, with forward slashes"""
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a directory holds; two directories with equal `root` hold the same bytes under the same names."""

    files: tuple[Entry, ...]
    root: str

    @property
    def num_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(entry.bytes for entry in self.files)


def write(directory: Path) -> Manifest:
    """Flush every file below `directory` to the disk, then write its manifest, which appears whole or not at all.

    Raises AssetError for what cannot be listed (a link, a device, an absurd name) and OSError when the disk refuses.
    """
    paths, folders, problems = _walk(directory)
    paths = [path for path in paths if path not in (NAME, _PARTIAL)]
    problems += [f"{path!r}: {wrong}" for path in paths if (wrong := _wrong_path(path))]
    if problems:
        raise _refusal(directory, problems)

    def measure(path: str) -> Entry:
        atomic.sync(directory / path)
        return Entry(path, (directory / path).stat().st_size, digest.of_file(directory / path))

    files = tuple(_in_threads(measure, sorted(paths)))
    for folder in folders:
        atomic.sync(directory / folder)
    made = Manifest(files, _root(files))
    with open(directory / _PARTIAL, "wb") as file:
        file.write(_encode(made))
        file.flush()
        os.fsync(file.fileno())
    os.replace(directory / _PARTIAL, directory / NAME)
    atomic.sync(directory)
    return made


def verify(directory: Path) -> Manifest:
    """Read every byte of a directory and return its manifest if all is as listed.

    Raises AssetError naming each file that is missing, extra, of another size or content, or no plain file.
    Nothing outside the directory is opened.
    """
    listed = read(directory)
    try:
        paths, _, problems = _walk(directory)
    except OSError as error:
        raise _refusal(directory, [f"cannot be listed ({error.strerror})"]) from error
    on_disk, known = set(paths) - {NAME}, {entry.path for entry in listed.files}
    problems += [f"{path}: missing" for path in sorted(known - on_disk)]
    problems += [f"{path!r}: extra file, not in the manifest" for path in sorted(on_disk - known)]
    if not problems:  # opening is safe only once it is known that no part of a path is a link
        found = _in_threads(lambda entry: _compare(directory, entry), listed.files)
        problems = [problem for problem in found if problem]
    if problems:
        raise _refusal(directory, problems)
    return listed


def read(directory: Path) -> Manifest:
    """Return the manifest of a directory after checking the manifest itself, without looking at the files it lists."""
    path = directory / NAME
    try:
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise _refusal(directory, ["not a directory of its own (a link or a file)"])
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST_BYTES:
            raise _refusal(directory, [f"{NAME}: not a plain file of at most {MAX_MANIFEST_BYTES} bytes"])
        text = path.read_bytes()
    except FileNotFoundError:
        raise _refusal(directory, [f"{NAME}: missing; deleted, or a copy that was cut short"]) from None
    except OSError as error:
        raise _refusal(directory, [f"{NAME}: cannot be read ({error.strerror})"]) from error
    try:
        return _decode(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refusal(directory, [f"{NAME}: damaged ({error})"]) from error


def content(directory: Path, name: str) -> bytes:
    """Return the bytes of one file right in a directory; AssetError unless they are as the manifest lists them.

    No other file is looked at, so that this is quick whatever the directory holds.
    """
    entry = next((entry for entry in read(directory).files if entry.path == name), None)
    try:
        if entry is None or not stat.S_ISREG(os.lstat(directory / name).st_mode):
            raise _refusal(directory, [f"{name}: not in the manifest, or not a plain file"])
        if problem := _compare(directory, entry):
            raise _refusal(directory, [problem])
        return (directory / name).read_bytes()
    except OSError as error:
        raise _refusal(directory, [f"{name}: cannot be read ({error.strerror})"]) from error


def _encode(made: Manifest) -> bytes:
    content = {"format": FORMAT, "files": [dataclasses.asdict(entry) for entry in made.files], "root": made.root}
    return json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"


def _decode(text: bytes) -> Manifest:
    content = json.loads(text)
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}, this program reads {FORMAT}")
    files = tuple(_entry(fields) for fields in content["files"])
    if [entry.path for entry in files] != sorted({entry.path for entry in files}):
        raise ValueError("its files are not in order, or one is listed twice")
    made = Manifest(files, _root(files))
    if content["root"] != made.root:
        raise ValueError("its root digest does not fit its list of files")
    # One content has one spelling, so that nothing hides in a key given twice, an unknown one, or white space.
    if _encode(made) != text:
        raise ValueError("it is not spelt as this program writes it")
    return made


def _entry(fields: dict[str, Any]) -> Entry:
    path, size, sha256 = fields["path"], fields["bytes"], fields["sha256"]
    if not isinstance(path, str) or (wrong := _wrong_path(path)):
        raise ValueError(f"{str(path)[:80]!r}: {wrong if isinstance(path, str) else 'not a path'}")
    if type(size) is not int or size < 0 or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{path!r}: its size or its SHA-256 is no such thing")
    return Entry(path, size, sha256)


def _wrong_path(path: str) -> str:
    """Return why a path must not be in a manifest, or ''."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return "the path leaves the directory"
    if not path.isprintable() or "\\" in path or not all(parts) or "." in parts or path == NAME:
        return "not the name of a file"
    encoded = path.encode()  # a lone surrogate is not printable, so this cannot fail
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"the name is {len(encoded)} bytes long"
    return ""


def _root(files: Sequence[Entry]) -> str:
    return digest.of_json({"format": FORMAT, "files": [dataclasses.asdict(entry) for entry in files]})


def _walk(directory: Path) -> tuple[list[str], list[str], list[str]]:
    """Return relative paths of the plain files, of the folders (deepest first), and what is wrong with the rest."""
    files: list[str] = []
    folders: list[str] = []
    problems: list[str] = []
    for entry, name in _entries(directory, PurePosixPath()):
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        elif entry.is_file(follow_symlinks=False):
            files.append(name)
        else:
            problems.append(f"{name!r}: {'a symbolic link' if entry.is_symlink() else 'not a plain file'}")
    return files, folders[::-1], problems


def _entries(directory: Path, below: PurePosixPath) -> Iterator[tuple["os.DirEntry[str]", str]]:
    with os.scandir(directory / below) as found:
        for entry in found:
            yield entry, str(below / entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(directory, below / entry.name)


def _compare(directory: Path, entry: Entry) -> str:
    path = directory / entry.path
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return (
                f"{entry.path}: {'truncated' if size < entry.bytes else 'grown'}, {size} bytes instead of {entry.bytes}"
            )
        return "" if digest.of_file(path) == entry.sha256 else f"{entry.path}: SHA-256 differs"
    except OSError as error:
        return f"{entry.path}: cannot be read ({error.strerror})"


def _in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    # hashlib and fsync release the interpreter, so that threads are as good as processes here.
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _refusal(directory: Path, problems: list[str]) -> Damaged:
    more = len(problems) - MAX_LISTED_PROBLEMS
    listed = problems[:MAX_LISTED_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
    made = Damaged(f"{directory}: " + "; ".join(listed))
    made.problems = problems
    return made
