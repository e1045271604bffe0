"""Files that are read forwards: lines in chunks of any size, and tapes that are taken up, left and changed."""

import re
import tracemalloc
from pathlib import Path

import pytest
from corpora import resolve, text, write_jsonl

from codex_jax.data import chunks, opening
from codex_jax.data import corpus as corpora_of
from codex_jax.errors import AssetError


pytestmark = pytest.mark.data

END = re.compile(rb"\r\n|\n|\r")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("mark", [b"", chunks.BYTE_ORDER_MARK])
def test_lines_are_the_same_in_chunks_of_any_size(size: int, mark: bytes) -> None:
    content = mark + b"one\r\ntwo\rthree\n\n\r\n\r" + b"x" * 300 + b"\r\nlast\r"
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    found = list(chunks.lines(iter(parts), END, 100))
    assert [line.content for line in found if len(line.content) <= 100] == [
        line for line in content.removeprefix(mark).splitlines(keepends=True) if len(line) < 100
    ]
    assert [line.number for line in found] == list(range(1, 9))
    assert all(content[line.offset :].startswith(line.content) for line in found)


def test_line_of_any_length_is_not_held() -> None:
    tracemalloc.start()
    found = list(chunks.lines((b"x" * 65_536 for _ in range(1000)), END, 1_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(line.content) > 1_000_000 for line in found] == [True] and peak < 8_000_000


def open_csv(directory: Path, data: object) -> corpora_of.Corpus:
    for number in range(2):
        rows = "".join(f"{text(row)}\n" for row in range(3000 * number, 3000 * number + 3000))
        (directory / f"{number}.csv").write_text(f"text\n{rows}")
    return corpora_of.open_corpus(data, "data")


def test_unit_that_was_left_half_way_and_one_of_another_file_are_whole(tmp_path: Path) -> None:
    data = resolve(data__paths=(str(tmp_path),)).data
    corpus = open_csv(tmp_path, data)
    first = int(corpus.ends_F[0])
    parts = [[entry.row.content for entry in corpus.read([unit], data)] for unit in range(corpus.num_units)]
    one, two, *_ = [unit for unit in range(first) if parts[unit]]
    for unit in (one, two, first + one):
        next(corpus.read([one], data))
        assert [entry.row.content for entry in corpus.read([unit], data)] == parts[unit]
    assert parts[first + one] != parts[one]
    list(corpus.read([one], data))
    assert [entry.row.content for entry in corpus.read([first + two], data)] == parts[first + two] != parts[two]


def test_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", range(9))
    size = path.stat().st_size
    assert b"".join(opening.blocks(str(path), size)) == path.read_bytes()
    assert b"".join(opening.blocks(str(path), 7)) == path.read_bytes()[:7]
    with pytest.raises(AssetError, match=rf"a\.jsonl has changed: it had {size + 1} bytes"):
        list(opening.blocks(str(path), size + 1))
