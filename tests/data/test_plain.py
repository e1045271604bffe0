"""Text as lines and as whole files: each once wherever units begin, bad ones by their place, old stores still read."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import stores
from corpora import opened, resolve, text
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout, mixture, plan
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.errors import AssetError
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data


def read(*paths: Path, **changes: Any) -> tuple[list[str], Report]:
    data = resolve(data__paths=tuple(map(str, paths)), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    return ["".join(piece.text for piece in pieces) for pieces in reader.read(range(corpus.num_units), report)], report


@given(st.lists(st.integers(1, 700), min_size=1, max_size=40), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
@settings(deadline=None)
def test_every_line_is_a_document_once_wherever_units_begin(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], end: bytes, final: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    lines = [f"{number}\u2028\x0b\x85" + "x" * size for number, size in enumerate(sizes)]
    path.write_bytes(end.join(line.encode() for line in lines) + (end if final else b""))
    assert read(path, data__document="line", data__window_bytes=1024)[0] == lines


def test_blank_lines_and_the_byte_order_mark_are_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\n \t\r\n  two \n")
    found, report = read(tmp_path / "a.txt", data__document="line")
    assert (found, report.read) == (["one", "  two "], 2)


def test_bad_lines_are_named_and_all_others_delivered(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n" + b"x" * 101 + b"\nb\xffd\n" + b"x" * 100 + b"\n")
    found, report = read(tmp_path / "a.txt", data__document="line", data__max_line_bytes=100)
    assert found == ["good", "x" * 100]
    assert [(row.line, row.offset, row.reason) for row in report.rows] == [
        (2, 5, "longer than data.max_line_bytes=100"),
        (3, 107, "byte 0xff at column 2 is not UTF-8"),
    ]


def test_whole_files_are_documents_in_order(tmp_path: Path) -> None:
    contents = [text(number) + "\r\n\n" + "x" * 300 * number for number in range(9)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.txt").write_bytes(b"\xef\xbb\xbf" * (number == 3) + content.encode())
    assert read(tmp_path, data__document="file")[0] == contents


def test_file_that_is_too_large_or_no_text_is_quarantined_and_no_other(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * 101), ("b", b"y" * 100), ("c", b"\xef\xbb\xbfone\nt\xffo")):
        (tmp_path / f"{name}.txt").write_bytes(content)
    found, report = read(tmp_path, data__document="file", data__max_line_bytes=100)
    assert found == ["y" * 100]
    large, broken = report.rows
    assert large.reason.startswith("larger than data.max_line_bytes=100 allows for a document; raise it")
    assert (broken.line, broken.offset) == (2, 8) and "0xff is not UTF-8" in broken.reason


@pytest.mark.parametrize("kind", ["line", "file"])
def test_compressed_files_hold_the_same_documents(tmp_path: Path, kind: str) -> None:
    contents = [f"\ufeff{text(number)}\r\n\n".encode() + b"x" * 30 * number + b"\nlast" for number in range(9)]
    contents += [b"good\nb\xffd\n", b"x" * 401]
    for number, content in enumerate(contents):
        (tmp_path / f"{number:02d}.txt").write_bytes(content)
        (tmp_path / f"{number:02d}.txt.gz").write_bytes(gzip.compress(content))
    settings = {"data__document": kind, "data__max_line_bytes": 400}
    plain, theirs = (read(tmp_path / f"*.{suffix}", **settings) for suffix in ("txt", "txt.gz"))
    assert plain[0] == theirs[0] and len(plain[0]) >= 9
    rows = [[(row.line, row.offset, row.reason) for row in report.rows] for _, report in (plain, theirs)]
    assert rows[0] == rows[1] and [row[0] for row in rows[0]] == [2, 1]


def test_choice_decides_the_content_and_the_default_is_that_of_before(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words\n" * 40)
    contents = []
    for changes in ({}, {"data__document": "line"}):
        given = resolve(data__paths=(str(tmp_path / "a.txt"),), **changes)
        (part,) = opened(given)
        contents.append(mixture.content(part))
    assert "document" not in contents[0]
    assert contents[1] == {**contents[0], "document": "line"}


def test_store_of_other_documents_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)
    path = tmp_path / "a.txt"
    path.write_text("".join(text(number) + "\n" for number in range(60)))
    made = stores.build(stores.settings_for(path, tmp_path / "store", data__document="line"))
    assert sum(made.report(split).trained for split in plan.SPLITS) == 60
    with pytest.raises(AssetError, match="document: 'line' in the store, nothing now"):
        stores.open_stream(stores.settings_for(path, tmp_path / "store"))
