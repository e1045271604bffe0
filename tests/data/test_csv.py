"""CSV: rows with line ends in quotes, bad rows by their line, and no row after what cannot be read."""

import csv
import io
import random
from pathlib import Path

import pytest
from corpora import resolve

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data


def read(path: Path, content: bytes, **changes: object) -> tuple[list[str], Report]:
    path.write_bytes(content)
    data = resolve(data__paths=(str(path),), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
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
        (4, "has 1 field, the first row names 2"),
        (6, "not UTF-8"),
        (7, "longer than data.max_line_bytes=100"),
    ]


@pytest.mark.parametrize("row", [b'"never closed,2', b'"closed" early,3', b'"spans\nlines" badly,4'])
def test_row_with_a_broken_quote_costs_its_first_line_and_no_other_row(tmp_path: Path, row: bytes) -> None:
    found, report = read(tmp_path / "a.csv", b"text,n\ngood,1\n" + row + b'\nnext,3\n"an\nother",4\n')
    assert [text for text in found if text != 'lines" badly'] == ["good", "next", "an\nother"]
    assert [row.line for row in report.rows] == [3] and report.rows[0].reason.startswith("not CSV: ")


def test_unclosed_quote_ends_at_the_limit_and_reading_goes_on_at_a_line(tmp_path: Path) -> None:
    rows = b"".join(b"row %03d,1\n" % number for number in range(100))
    found, report = read(tmp_path / "a.csv", b'text,n\n"open,1\n' + rows, data__max_line_bytes=100)
    assert found == [f"row {number:03d}" for number in range(9, 100)]
    (bad,) = report.rows
    assert bad.line == 2 and "or a quote in it is never closed: 10 lines are left out" in bad.reason


def test_broken_row_of_names_costs_the_file_and_says_so(tmp_path: Path) -> None:
    found, report = read(tmp_path / "a.csv", b'"text" broken,n\ngood,1\n')
    assert found == [] and report.rows[0].ends_file
    assert report.rows[0].reason.startswith("the rest of the file is not read: its row of names is not CSV")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_rows_are_the_same_wherever_units_and_blocks_begin(tmp_path: Path, end: bytes) -> None:
    """The csv module on the file as a whole is the oracle."""
    draw = random.Random(0)
    values = ["".join(draw.choices('ab,"\n\ré🙂 ', k=draw.randrange(60))) for _ in range(4000)]
    plain = io.StringIO(newline="")
    table = csv.writer(plain, lineterminator=end.decode(), quoting=csv.QUOTE_ALL)
    table.writerows([("text", "n"), *((value, 1) for value in values)])
    found, report = read(tmp_path / "a.csv", plain.getvalue().encode())
    assert not report.rows
    assert found == [value for value in values if value.strip()]


def test_units_of_a_file_come_in_order_and_share_out_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "".join(f"row {number}\n" for number in range(5000)))
    data = resolve(data__paths=(str(path),)).data
    corpus = corpora_of.open_corpus(data, "data")
    parts = [[entry.row.content for entry in corpus.read([unit], data)] for unit in range(corpus.num_units)]
    assert len(parts) > 40 and [row for part in parts for row in part] == [b"row %d" % n for n in range(5000)]
    again = corpora_of.open_corpus(data, "data")
    assert [entry.row.content for entry in again.read([30, 7, 8], data)] == parts[30] + parts[7] + parts[8]
