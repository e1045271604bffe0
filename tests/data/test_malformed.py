"""Rows that are not JSON, after the cases of the JSON test suites: each named, and every good row delivered."""

import json
from pathlib import Path

import pytest
from corpora import resolve, text

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data

VALUES = """
[1 true]|[a]|["": 1]|[""],|[,1]|[1,,2]|["x"]]|["",]|["x"|[x|[3[4]]|[1,]|[1:2]|[,]|[-]|[   , ""]
[1,1|[1,|[*|[""|[nul]|[fals]|[tru]
[++1234]|[+1]|[+Inf]|[-01]|[-1.0.]|[-2.]|[-NaN]|[.-1]|[.2e-3]|[0.1.2]|[0.3e+]|[0.3e]|[0.e1]|[0E+]
[0E]|[0e+]|[0e]|[1.0e+]
[1.0e-]|[1.0e]|[1 000.0]|[1eE2]|[2.e+3]|[2.e-3]|[2.e3]|[9.e+]|[Inf]|[NaN]|[1+2]|[0x1]|[0x42]
[Infinity]|[0e+-1]|[-Infinity]
[-foo]|[- 1]|[-012]|[-.123]|[-1x]|[1ea]|[1.]|[.123]|[1.2a-3]|[1.8011670033376514H-308]|[012]|["x", truth]
{[: "x"}|{"x", null}|{"x"::"b"}|{🇨🇭}|{"a":"a" 123}|{key: 'value'}|{"a" b}|{:"b"}|{"a" "b"}|{"a":
{"a"|{1:1}|{9999E9999:1}
{null:null,null:null}|{"id":0,,,,,}|{'a':0}|{"id":0,}|{"a":"b"}/**/|{"a":"b"}/**//|{"a":"b"}//
{"a":"b"}/|{"a":"b",,"c":"d"}
{a: "b"}|{"a":"a|{ "foo" : "bar", "a" }|{"a":"b"}#|["\\uD800\\"]|["\\uD800\\u"]|["\\uD800\\u1"]
["\\uD800\\u1x"]|[é]
["\\x00"]|["\\\\\\"]|["\\\t"]|["\\🌀"]|["\\"]|["\\u00A"]|["\\uD834\\uDd"]|["\\a"]|["\\uqqqq"]
[\\u0020"asd"]|[\\n]|"|['single quote']
abc|["\\|["a\x00a"]|["\t"]|"\\UA66D"|<.>|[<null>]|[1]x|[1]]|["asd]|aå|[True]|1]|{"x": true,|[][]|]
{}}|{"":|{"asd":"asd"
å|[|{}#|*|{"a":"b"}#{}|[\\u000A""]|[1|[ false, tru|[ true, fals|{"asd":"asd"|[\u2060]|[,|[{|["a|{
{]|{,|{[|{"a|{'a'|["\\{["\\{["\\{|﻿
"""
BROKEN = [case for line in VALUES.strip("\n").split("\n") for case in line.split("|")] + ['["\x1f"]', "[\x0c]"]
NO_OBJECTS = ["[]", "[1,2]", '"text"', "null", "true", "-0", "1e9", "0.5", '["\\uD800"]', "[[[[]]]]", " [] ", '""']


def read(path: Path, lines: list[bytes]) -> tuple[int, Report]:
    path.write_bytes(b"\n".join(lines) + b"\n")
    data = resolve(data__paths=(str(path),)).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    return len(list(reader.read(range(corpus.num_units), report))), report


def good(number: int) -> bytes:
    return json.dumps({"text": text(number)}).encode()


def among_good_rows(path: Path, cases: list[bytes]) -> Report:
    """Read the cases, each between two good rows, and see that all of them are named with their places."""
    lines = [line for number, case in enumerate(cases) for line in (good(number), case)] + [good(len(cases))]
    delivered, report = read(path, lines)
    assert delivered == len(cases) + 1
    starts = [sum(len(line) + 1 for line in lines[:at]) for at in range(1, len(lines), 2)]
    assert [(row.line, row.offset) for row in report.rows] == list(zip(range(2, len(lines), 2), starts, strict=True))
    return report


def test_every_malformed_row_is_named_and_every_good_one_delivered(tmp_path: Path) -> None:
    cases = [case.encode() for case in BROKEN if case.strip()]
    assert len(cases) > 150
    report = among_good_rows(tmp_path / "a.jsonl", cases)
    assert {row.reason[:9] for row in report.rows} == {"not JSON:"}


def test_json_that_is_no_object_is_named(tmp_path: Path) -> None:
    report = among_good_rows(tmp_path / "a.jsonl", [case.encode() for case in NO_OBJECTS])
    assert {row.reason.removeprefix("not an object but ") for row in report.rows} == {
        "a list",
        "a string",
        "null",
        "true or false",
        "a number",
    }


def test_bytes_that_are_no_utf8_are_one_bad_row_of_a_thousand(tmp_path: Path) -> None:
    bad = [b'{"text": "\xed\xa0\x80"}', b'{"text": "\xc0\xaf"}', b'{"text": "\x81"}', b"\xff\xfe[\x00]\x00"]
    for case in bad:
        lines = [good(number) for number in range(999)]
        lines.insert(500, case)
        delivered, report = read(tmp_path / "a.jsonl", lines)
        assert delivered == 999 and [row.line for row in report.rows] == [501]


def test_deep_nesting_is_one_bad_row(tmp_path: Path) -> None:
    report = among_good_rows(tmp_path / "a.jsonl", [b"[" * 100_000, b'{"a":' * 50_000])
    assert {row.reason[:9] for row in report.rows} == {"not JSON:"}


def test_line_of_megabytes_costs_no_other(tmp_path: Path) -> None:
    report = among_good_rows(tmp_path / "a.jsonl", [b'{"text": "' + b"x" * 20_000_000 + b'"}'])
    assert report.rows[0].reason == "longer than data.max_line_bytes=4194304"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n", b" \n\t\n"])
def test_blank_lines_and_a_missing_end_are_no_rows(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(good(0) + b"\r\n\r\n" + good(1) + end)
    data = resolve(data__paths=(str(tmp_path / "a.jsonl"),)).data
    corpus = corpora_of.open_corpus(data, "data")
    assert len(list(corpus.read(range(corpus.num_units), data))) == 2


@pytest.mark.parametrize("name", ["a b.jsonl", "🙂é.jsonl", "line\nend.jsonl", "-x.jsonl", "%s{}.jsonl"])
def test_any_name_of_a_file_works(tmp_path: Path, name: str) -> None:
    delivered, report = read(tmp_path / name, [good(0), b"[", good(1)])
    assert delivered == 2 and str(report.rows[0]).startswith(f"{tmp_path}/{name}:2 (byte ")
