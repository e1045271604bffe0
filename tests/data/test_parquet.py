"""Parquet: every row once, whatever the row groups; bad rows by their number; damage and a missing package named."""

import sys
from pathlib import Path
from typing import Any

import pytest
from corpora import read, text

from codex_jax.errors import AssetError, ConfigError


pytestmark = pytest.mark.data
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, rows: list[dict[str, Any]], group: int) -> Path:
    return write_table(path, pyarrow.Table.from_pylist(rows), group)


def write_table(path: Path, table: Any, group: int) -> Path:
    parquet.write_table(table, path, row_group_size=group)
    return path


@pytest.mark.parametrize("group", [1, 7, 300, 1000])
def test_every_row_is_read_once_in_order(tmp_path: Path, group: int) -> None:
    rows = [{"text": text(number), "other": number, "big": "x" * 50} for number in range(700)]
    found, report = read(write(tmp_path / "a.parquet", rows, group))
    assert found == [row["text"] for row in rows]
    assert (report.read, report.trained) == (700, 700)


def test_instructions_and_chats_are_rows_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert read(write(tmp_path / "a.parquet", [{"messages": chat}], 1))[0] == ["a|b"]
    rows = [{"q": "c", "a": "d"}]
    changes = {"data__prompt_field": "q", "data__completion_field": "a"}
    assert read(write(tmp_path / "b.parquet", rows, 1), **changes)[0] == ["c|d"]


def test_bad_row_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [{"text": None if number == 5 else text(number)} for number in range(9)]
    found, report = read(write(tmp_path / "a.parquet", rows, 2))
    assert len(found) == 8
    assert str(report.rows[0]) == f"{tmp_path}/a.parquet:6: field 'text' is not a string but null"


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_row_that_is_no_utf8_is_a_bad_one_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    texts = [b"caf\xe9, of a text" if number == 300 else text(number).encode() for number in range(310)]
    made = pyarrow.array(texts, pyarrow.binary()).cast(kind.replace("string", "binary")).view(kind)
    path = write_table(tmp_path / "a.parquet", pyarrow.table({"text": made}), 100)
    found, report = read(path)
    assert found == [text(number) for number in range(310) if number != 300]
    assert [(row.line, row.reason) for row in report.rows] == [(301, "not UTF-8")]


def test_message_that_is_no_utf8_costs_its_chat_alone(tmp_path: Path) -> None:
    said = pyarrow.array([b"a", b"b", b"c\xff", b"d"], pyarrow.binary()).view("string")
    role = pyarrow.array(["user", "assistant"] * 2)
    messages = pyarrow.ListArray.from_arrays(
        [0, 2, 4], pyarrow.StructArray.from_arrays([role, said], ["role", "content"])
    )
    path = write_table(tmp_path / "a.parquet", pyarrow.table({"messages": messages}), 100)
    found, report = read(path)
    assert found == ["a|b"] and [(row.line, row.reason) for row in report.rows] == [(2, "not UTF-8")]


def test_value_that_python_has_none_for_is_a_bad_row(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", pyarrow.table({"text": pyarrow.array([1, 2**62], "timestamp[us]")}), 2)
    reasons = [row.reason for row in read(path)[1].rows]
    assert reasons == ["field 'text' is not a string but of type datetime", "a field cannot be read: OverflowError"]


def test_name_of_a_column_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "a", "name": "b"}], 1)
    path.write_bytes(path.read_bytes().replace(b"name", b"\xffame"))
    with pytest.raises(AssetError, match=r"a\.parquet is not a whole Parquet file"):
        read(path)


def test_table_without_the_columns_has_no_document(tmp_path: Path) -> None:
    _, report = read(write(tmp_path / "a.parquet", [{"body": text(number)} for number in range(5)], 2))
    assert [row.line for row in report.rows] == [1, 2, 3, 4, 5]
    assert {row.reason for row in report.rows} == {"has no field 'text'"}


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"PAR1 no table PAR1"])
def test_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    path = write(tmp_path / "a.parquet", [{"text": text(number)} for number in range(50)], 10)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AssetError, match=r"a\.parquet is not a whole Parquet file"):
        read(path)


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "a"}], 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'codex-jax\[parquet\]'"):
        read(path)
