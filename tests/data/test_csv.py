"""CSV: rows with line ends in quotes, bad rows by their line, and no row after what cannot be read."""

from pathlib import Path

import pytest
from corpora import resolve

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report


pytestmark = pytest.mark.data


def read(path: Path, content: bytes, **changes: object) -> tuple[list[str], Report]:
    path.write_bytes(content)
    data = resolve(data__paths=(str(path),), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, redact=False, split="all", layout=layout.contents)
    return ["|".join(p.text for p in pieces) for pieces in reader.read(range(corpus.num_units), report)], report


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_are_read_with_line_ends_and_quotes_inside(tmp_path: Path, end: bytes, mark: bytes) -> None:
    lines = [b"text,other", b'"a ""quoted"", word\n\nand more",1', "é\u2028,2".encode(), b"", b"C:\\new\\table,3"]
    found, report = read(tmp_path / "a.csv", mark + end.join(lines) + end)
    assert found == ['a "quoted", word\n\nand more', "é\u2028", "C:\\new\\table"]
    assert report.read == 3


def test_instruction_is_two_columns(tmp_path: Path) -> None:
    changes = {"data__prompt_field": "q", "data__completion_field": "a"}
    assert read(tmp_path / "a.csv", b"id,q,a\n1,why,so\n", **changes)[0] == ["why|so"]


def test_bad_rows_are_named_by_line_and_others_delivered(tmp_path: Path) -> None:
    long = b"x" * 200
    content = b'text,n\n"two\nlines",1\nonly one\ngood,2\n\xff,3\n' + long + b",4\nlast,5\n"
    found, report = read(tmp_path / "a.csv", content, data__max_line_bytes=100)
    assert found == ["two\nlines", "good", "last"]
    assert [(row.line, row.reason) for row in report.rows] == [
        (4, "has 1 fields, the first row names 2"),
        (6, "not UTF-8"),
        (7, "longer than data.max_line_bytes=100"),
    ]


@pytest.mark.parametrize("tail", [b'"never closed\nmore\n', b'"closed" early,3\nmore,4\n'])
def test_what_follows_a_broken_quote_is_one_bad_row(tmp_path: Path, tail: bytes) -> None:
    found, report = read(tmp_path / "a.csv", b"text,n\ngood,1\n" + tail)
    assert found == ["good"]
    assert [row.line for row in report.rows] == [3] and "what follows is not read" in report.rows[0].reason
