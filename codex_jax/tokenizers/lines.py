"""Lines of text files for the training of a tokenizer, read in chunks: memory does not grow with the files."""

import codecs
import dataclasses
import glob
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from codex_jax import config, digest, inflate
from codex_jax.errors import AssetError


CHUNK_BYTES = 1_048_576
# A line without end is cut, lest it fill the memory.
_LINE_CHARS = 1_048_576
_MOST_EXPANSION = config.Data().max_expansion
_HEAD_BYTES = 65_536
# Lines go to the trainers in texts of about this size, so that what spans line ends can become a token.
_TEXT_CHARS = 4096


def find(patterns: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that the patterns name, sorted, each once; `**` goes to any depth, a directory is all below it.

    AssetError, naming the patterns, when there are none, or when all of them are empty.
    """
    found = {Path(name) for pattern in patterns for name in glob.glob(pattern, recursive=True)}
    found |= {below for path in found if path.is_dir() for below in path.rglob("*")}
    files = tuple(sorted(path for path in found if path.is_file()))
    if not files:
        raise AssetError(f"no file matches {', '.join(patterns)}; name files, directories or globs that exist")
    if not any(path.stat().st_size for path in files):
        raise AssetError(f"every file that matches {', '.join(patterns)} is empty; there is nothing to learn from")
    return files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of files, one after the other; each iteration begins at the first."""

    files: tuple[Path, ...]
    chunk_bytes: int = CHUNK_BYTES

    def __iter__(self) -> Iterator[str]:
        """Yield each line with its end (a line feed and nothing else ends one); AssetError when it is not UTF-8."""
        for path in self.files:
            begun = ""
            for text in self._read(path):
                *whole, begun = (begun + text).split("\n")
                for line in whole:
                    yield from _cut(line + "\n")
                while len(begun) > _LINE_CHARS:
                    yield begun[:_LINE_CHARS]
                    begun = begun[_LINE_CHARS:]
            if begun:
                yield begun

    def num_bytes(self) -> int:
        """Return the size of all files."""
        return sum(path.stat().st_size for path in self.files)

    def digest(self) -> str:
        """Return the SHA-256 of the contents in their order, whatever the files are called."""
        return digest.of_json([digest.of_file(path) for path in self.files])

    def texts(self) -> Iterator[str]:
        """Yield the lines in texts of about 4,096 characters, which do not depend on the chunks."""
        waiting, chars = [], 0
        for line in self:
            waiting.append(line)
            chars += len(line)
            if chars >= _TEXT_CHARS:
                yield "".join(waiting)
                waiting, chars = [], 0
        if waiting:
            yield "".join(waiting)

    def sample(self, num_bytes: int, seed: int) -> Iterator[str]:
        """Yield about `num_bytes` of the texts, drawn by `seed` from all over the files, all if they are fewer."""
        share, draw = num_bytes / max(sum(map(_text_bytes, self.files)), 1), random.Random(seed)
        return (text for text in self.texts() if share >= 1 or draw.random() < share)

    def _read(self, path: Path) -> Iterator[str]:
        decoder, before = codecs.getincrementaldecoder("utf-8")(), 0
        for chunk in itertools.chain(self._chunks(path), [b""]):
            try:
                yield decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = before - (len(error.object) - len(chunk)) + error.start
                raise AssetError(f"{path} is not UTF-8 at byte {place}; convert it or leave it out") from error
            before += len(chunk)

    def _chunks(self, path: Path) -> Iterator[bytes]:
        """Yield the bytes of a file, decompressed; none of them is empty."""
        if not (suffix := inflate.suffix_of(str(path))):
            yield from self._blocks(path)
            return
        try:
            for text, _ in inflate.inflate(lambda: self._blocks(path), suffix, _MOST_EXPANSION):
                yield text
        except inflate.Damaged as damage:
            raise AssetError(f"{path} cannot be read to its end: {damage}; repair it or leave it out") from damage

    def _blocks(self, path: Path) -> Iterator[bytes]:
        with open(path, "rb") as file:
            while block := file.read(self.chunk_bytes):
                yield block


def _text_bytes(path: Path) -> int:
    """Return how much text a file holds, about that where it is compressed."""
    size = path.stat().st_size
    if not (suffix := inflate.suffix_of(str(path))):
        return size
    with open(path, "rb") as file:
        return inflate.beginning(file.read(_HEAD_BYTES), size, suffix, _MOST_EXPANSION)[1]


def _cut(line: str) -> Iterator[str]:
    for start in range(0, len(line), _LINE_CHARS):
        yield line[start : start + _LINE_CHARS]
