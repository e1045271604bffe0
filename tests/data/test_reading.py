"""Files to documents: every byte in one document, bad rows named with their place, paths that lead nowhere refused."""

import io
import json
import os
from pathlib import Path

import pytest
from corpora import resolve, text, write_jsonl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codex_jax import config
from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.jsonl import JsonlSource
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.data.text import TextSource
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data


def read_all(source: TextSource | JsonlSource, content: bytes, data: config.Data) -> list[Document | BadRow]:
    units = -(-len(content) // source.unit_bytes(data))
    file = io.BytesIO(content)
    return [row for unit in range(units) for row in source.read(file, len(content), unit, data)]


@given(st.lists(st.text(alphabet=st.sampled_from("ab €\n🙂.\r"), max_size=90), max_size=20))
@example(["x" * 1000])
@example(["🙂" * 300])
@example(["line\n"] * 40)
@settings(deadline=None)
def test_text_documents_put_together_are_the_file(parts: list[str]) -> None:
    content = "".join(parts).encode()
    rows = read_all(TextSource(), content, resolve().data)
    assert all(isinstance(row, Document) for row in rows)
    assert b"".join(row.content for row in rows) == content
    assert all(content[row.offset :].startswith(row.content) for row in rows)
    assert all(len(row.content) < 2 * 64 for row in rows)


def test_text_is_cut_behind_line_ends() -> None:
    content = ("a line of some length\n" * 50).encode()
    rows = read_all(TextSource(), content, resolve().data)
    assert len(rows) > 10
    assert all(row.parts[0].text.endswith("\n") for row in rows)


def test_text_without_lines_is_not_cut_within_a_word() -> None:
    secret = "ghp_" + "a1B2" * 9
    content = (f"{secret} " * 40).encode()
    rows = read_all(TextSource(), content, resolve().data)
    assert sum(row.parts[0].text.count(secret) for row in rows) == 40


def test_invalid_byte_quarantines_one_document_and_no_other() -> None:
    content = b"good line of text here\n" * 20 + b"bad \xff byte\n" + b"good line of text here\n" * 20
    rows = read_all(TextSource(), content, resolve().data)
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    assert content[bad.offset] == 0xFF and "0xff is not UTF-8" in bad.reason
    assert sum(isinstance(row, Document) for row in rows) >= 10


BAD_LINES = {
    b'{"text": "a"': "not JSON",
    b"{'text': 'a'}": "not JSON",
    b'{"text": NaN}': "NaN is not a JSON number",
    b"[1, 2]": "not an object but a list",
    b'"text"': "not an object but a string",
    b'{"body": "a"}': "has no field 'text'",
    b'{"text": 3}': "not a string but a number",
    b'{"text": null}': "not a string but null",
    b'{"text": "\xff"}': "0xff at column 11 is not UTF-8",
    b'{"text": "\\ud800"}': "half of a surrogate pair",
    b'{"text": "' + b"x" * 300 + b'"}': "longer than data.max_line_bytes=256",
    b"[" * 250: "not JSON",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:20].decode("latin-1"))
def test_bad_row_is_named_with_its_place(tmp_path: Path, line: bytes) -> None:
    good = [json.dumps({"text": text(number)}).encode() for number in range(4)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*good[:3], line, good[3], b""]))
    data = resolve(data__paths=(str(path),), data__max_line_bytes=256).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    assert len(list(reader.read(range(corpus.num_units), report))) == 4
    (row,) = report.rows
    assert (row.file, row.line, row.offset) == (str(path), 4, len(b"\n".join(good[:3])) + 1)
    assert BAD_LINES[line] in row.reason
    assert (report.read, report.trained, report.quarantined) == (5, 4, 1)


@given(st.lists(st.integers(0, 400), max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
@settings(deadline=None)
def test_rows_are_read_once_wherever_units_begin(sizes: list[int], end: bytes, final: bool) -> None:
    lines = [json.dumps({"text": f"{number}\u2028" + "x" * size}).encode() for number, size in enumerate(sizes)]
    content = end.join(lines) + (end if final and lines else b"")
    rows = read_all(JsonlSource(), content, resolve(data__window_bytes=1024).data)
    assert [row.parts[0].text for row in rows] == [f"{number}\u2028" + "x" * size for number, size in enumerate(sizes)]


def test_line_far_longer_than_a_unit_does_not_hide_the_next() -> None:
    content = b'{"text": "' + b"x" * 9000 + b'"}\n{"text": "next"}\n'
    first, second = read_all(JsonlSource(), content, resolve(data__max_line_bytes=4000).data)
    assert isinstance(first, BadRow) and first.offset == 0
    assert isinstance(second, Document) and second.parts[0].text == "next"


def test_byte_order_mark_is_no_text() -> None:
    assert read_all(TextSource(), b"\xef\xbb\xbfabc", resolve().data)[0].parts[0].text == "abc"
    assert read_all(JsonlSource(), b'\xef\xbb\xbf{"text": "abc"}', resolve().data)[0].parts[0].text == "abc"


def open_paths(*paths: object, **changes: object) -> corpora_of.Corpus:
    return corpora_of.open_corpus(resolve(data__paths=tuple(map(str, paths)), **changes).data, "data")


def test_directory_and_glob_expand_sorted_and_each_file_counts_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.md", ".hidden.txt", "image.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    corpus = open_paths(tmp_path, tmp_path / "*.txt", tmp_path / "a.txt")
    assert [file.name for file in corpus.files] == ["a.txt", "b.txt", "sub/c.md"]


def test_fingerprint_follows_names_and_content_not_the_place(tmp_path: Path) -> None:
    prints = []
    for place, content in (("one", "abc"), ("two", "abc"), ("three", "abd")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text(content)
        prints.append(open_paths(tmp_path / place).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_standard_library_is_the_default_and_all_of_it_is_utf8() -> None:
    corpus = corpora_of.open_corpus(config.resolve(config.default().to_dict()).data, "data")
    names = [file.name for file in corpus.files]
    assert corpus.source == "stdlib" and len(names) > 500
    assert "json/decoder.py" in names and not any("site-packages" in name for name in names)
    assert "test/encoded_modules/module_koi8_r.py" not in names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: tmp / "nowhere.txt", "nowhere.txt does not exist; correct data.paths"),
        (lambda tmp: tmp / "*.txt", "no file matches"),
        (lambda tmp: tmp, "holds no file ending in .txt"),
        (lambda tmp: empty(tmp / "empty.txt"), "empty.txt is empty"),
        (lambda tmp: os.mkfifo(tmp / "pipe") or tmp / "pipe", "neither a file nor a directory"),
        (lambda tmp: wide(tmp / "wide.txt"), "is UTF-16 or UTF-32"),
        (lambda tmp: wide(tmp / "wide.txt", "utf-16-le"), r"wide\.txt are NUL: it is UTF-16"),
        (lambda tmp: empty(tmp / "empty.txt").parent, r"all that data\.paths names is empty \(1 file\)"),
    ],
)
def test_path_that_leads_nowhere_is_refused(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        open_paths(make(tmp_path))


def empty(path: Path) -> Path:
    path.touch()
    return path


def wide(path: Path, encoding: str = "utf-16") -> Path:
    path.write_text("some text", encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.txt", r"nowhere\.txt does not exist; correct data\.validation_paths"),
        ("*.none", r"no file matches .*; correct data\.validation_paths"),
        ("empty.txt", r"empty\.txt is empty; fill it or leave it out of data\.validation_paths"),
        ("", r"all that data\.validation_paths names is empty \(1 file\)"),
    ],
)
def test_validation_path_that_leads_nowhere_is_refused_by_its_key(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "validation").mkdir()
    empty(tmp_path / "validation" / "empty.txt")
    rows = write_jsonl(tmp_path / "rows.jsonl", range(3))
    with pytest.raises(AssetError, match=message):
        open_paths(rows, data__validation_paths=(str(tmp_path / "validation" / name),))


def test_validation_files_are_read_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(text(0))
    rows = write_jsonl(tmp_path / "rows.jsonl", range(3))
    for paths in ((tmp_path / "book.txt",), ()):
        corpus = open_paths(*paths, data__validation_paths=(str(rows),))
        assert corpus.validation is not None and corpus.validation.source == "jsonl"
    same = open_paths(tmp_path / "book.txt", data__validation_paths=(str(rows),), data__source="text")
    assert same.validation is not None and same.validation.source == "text"


def test_name_of_a_source_may_be_written_in_any_case(tmp_path: Path) -> None:
    ours, theirs = (open_paths(data__source=name) for name in ("Stdlib", "stdlib"))
    assert (ours.source, ours.fingerprint) == ("stdlib", theirs.fingerprint)


@pytest.mark.parametrize("paths", [(), ("rows.xml",)])
def test_source_that_does_not_exist_is_told_from_one_without_files(paths: tuple[str, ...]) -> None:
    there = r"there are: arrayrecord, arrow, csv, hf, jsonl, parquet, stdlib, text$"
    with pytest.raises(ConfigError, match=r"^data\.source=xml does not exist; " + there):
        open_paths(*paths, data__source="xml")
    with pytest.raises(ConfigError, match=r"^data\.source=jsnl does not exist \(did you mean jsonl\?\); " + there):
        open_paths(*paths, data__source="jsnl")
    with pytest.raises(ConfigError, match=r"^data\.source=jsonl reads files: name them in data\.paths$"):
        open_paths(data__source="jsonl")


@pytest.mark.parametrize(
    ("name", "changes", "ignored"),
    [
        ("a.jsonl", {"data__document": "line"}, "no file of data.source=jsonl is read by data.document=line"),
        ("a.csv", {"data__document": "file"}, "no file of data.source=csv is read by data.document=file"),
        (
            "a.array_record",
            {"data__document": "line"},
            "no file of data.source=arrayrecord is read by data.document=line",
        ),
        ("a.jsonl", {"data__split_name": "test"}, "no file of data.source=jsonl is read by data.split_name=test"),
        ("a.txt", {"data__split_name": "test"}, "no file of data.source=text is read by data.split_name=test"),
        (
            "a.txt",
            {"data__text_field": "body", "data__messages_field": "chat"},
            "no file of data.source=text is read by data.text_field=body and data.messages_field=chat",
        ),
        ("", {"data__prompt_field": "q"}, "no file of data.source=stdlib is read by data.prompt_field=q"),
        (
            "a.array_record",
            {"data__text_field": "", "data__completion_field": "a"},
            "no file of data.source=arrayrecord is read by data.completion_field=a",
        ),
    ],
)
def test_setting_that_the_files_do_not_read_is_refused(
    tmp_path: Path, name: str, changes: dict[str, str], ignored: str
) -> None:
    if name:
        (tmp_path / name).write_text("text\n")
    with pytest.raises(ConfigError) as caught:
        open_paths(*([tmp_path / name] if name else []), **changes)
    assert str(caught.value) == f"{ignored}: leave that out"


def test_setting_that_files_to_validate_on_read_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    rows = write_jsonl(tmp_path / "rows.jsonl", range(3))
    open_paths(rows, data__validation_paths=(str(tmp_path / "a.txt"),), data__document="line")
    open_paths(tmp_path / "a.txt", data__validation_paths=(str(rows),), data__text_field="body")


def test_mixed_kinds_of_files_need_a_source(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", range(3))
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"a\.jsonl \(jsonl\) and .*b\.txt \(text\); name one in data\.source"):
        open_paths(tmp_path)
    assert len(open_paths(tmp_path, data__source="jsonl").files) == 1


def test_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", range(9))
    corpus = open_paths(path)
    with open(path, "a") as file:
        file.write("{}\n")
    with pytest.raises(AssetError, match=r"a\.jsonl has changed"):
        list(corpus.read([0], resolve(data__paths=(str(path),)).data))
