"""Arrow IPC: every row once, whatever the batches and units; bad rows by their number; damage and extras named."""

import sys
from pathlib import Path
from typing import Any

import pytest
import stores
from corpora import flipped, read, text

from codex_jax.data import plan
from codex_jax.errors import AssetError, ConfigError


pytestmark = pytest.mark.data
pyarrow = pytest.importorskip("pyarrow", reason="needs the extra hf")
ipc = pytest.importorskip("pyarrow.ipc", reason="needs the extra hf")


def write(path: Path, rows: list[dict[str, Any]], batch: int, **options: Any) -> Path:
    return write_table(path, pyarrow.Table.from_pylist(rows), batch, **options)


def write_table(path: Path, table: Any, batch: int, **options: Any) -> Path:
    kind = options.pop("kind", ipc.new_stream)
    with kind(str(path), table.schema, options=ipc.IpcWriteOptions(**options)) as file:
        file.write_table(table, batch)
    return path


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": number, "text": text(number), "more": "x" * 50} for number in range(start, start + count)]


@pytest.mark.parametrize("kind", [ipc.new_stream, ipc.new_file])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("batch", [1, 7, 300, 1000])
def test_every_row_is_read_once_in_order(tmp_path: Path, batch: int, compression: str | None, kind: Any) -> None:
    path = write(tmp_path / "a.arrow", numbered(700), batch, compression=compression, kind=kind)
    for window in (1024, 100_000_000):
        found, report = read(path, data__window_bytes=window)
        assert found == [text(number) for number in range(700)]
        assert (report.read, report.trained) == (700, 700)


def test_instructions_and_chats_are_rows_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert read(write(tmp_path / "a.arrow", [{"messages": chat}], 1))[0] == ["a|b"]
    changes = {"data__prompt_field": "q", "data__completion_field": "a"}
    assert read(write(tmp_path / "b.arrow", [{"q": "c", "a": "d"}], 1), **changes)[0] == ["c|d"]


def test_bad_row_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [{"text": None if number == 5 else text(number)} for number in range(9)]
    found, report = read(write(tmp_path / "a.arrow", rows, 2), data__window_bytes=1024)
    assert len(found) == 8
    assert str(report.rows[0]) == f"{tmp_path}/a.arrow:6: field 'text' is not a string but null"


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_row_that_is_no_utf8_is_a_bad_one_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    texts = [b"caf\xe9, of a text" if number == 300 else text(number).encode() for number in range(310)]
    made = pyarrow.array(texts, pyarrow.binary()).cast(kind.replace("string", "binary")).view(kind)
    path = write_table(tmp_path / "a.arrow", pyarrow.table({"text": made}), 100)
    found, report = read(path)
    assert found == [text(number) for number in range(310) if number != 300]
    assert [(row.line, row.reason) for row in report.rows] == [(301, "not UTF-8")]


def test_message_that_is_no_utf8_costs_its_chat_alone(tmp_path: Path) -> None:
    said = pyarrow.array([b"a", b"b", b"c\xff", b"d"], pyarrow.binary()).view("string")
    role = pyarrow.array(["user", "assistant"] * 2)
    messages = pyarrow.ListArray.from_arrays(
        [0, 2, 4], pyarrow.StructArray.from_arrays([role, said], ["role", "content"])
    )
    path = write_table(tmp_path / "a.arrow", pyarrow.table({"messages": messages}), 100)
    found, report = read(path)
    assert found == ["a|b"] and [(row.line, row.reason) for row in report.rows] == [(2, "not UTF-8")]


def test_table_without_the_columns_has_no_document(tmp_path: Path) -> None:
    _, report = read(write(tmp_path / "a.arrow", [{"body": text(number)} for number in range(5)], 2))
    assert [row.line for row in report.rows] == [1, 2, 3, 4, 5]
    assert {row.reason for row in report.rows} == {"has no field 'text'"}


@pytest.mark.parametrize("kind", [ipc.new_stream, ipc.new_file])
@pytest.mark.parametrize("left", [0.9, 0.5, 0.01])
def test_file_that_is_cut_off_is_named(tmp_path: Path, left: float, kind: Any) -> None:
    path = write(tmp_path / "a.arrow", numbered(300), 10, kind=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(AssetError, match=r"a\.arrow is not a whole Arrow file: it .*; fetch or write it again"):
        read(path)


def test_stream_that_ends_between_messages_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", numbered(300), 10)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(AssetError, match=r"ends at byte \d+ without an end mark"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"no arrow\n" * 9, b"\xff\xff\xff\xff\xff\xff\xff\xff" * 9, b"ARROW1\0\0" + b"\1" * 99]
)
def test_what_is_no_arrow_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(content)
    with pytest.raises(AssetError, match=r"a\.arrow is not a whole Arrow file"):
        read(tmp_path / "a.arrow")


def test_flipped_bits_are_named_or_change_text_alone_and_never_end_the_process(tmp_path: Path) -> None:
    path, named = write(tmp_path / "a.arrow", numbered(60), 10), 0
    for _ in flipped(path, 400):
        try:
            assert read(path)[1].read <= 60
        except AssetError as error:
            assert "is not a whole Arrow file" in str(error)
            named += 1
    assert named > 20


def test_columns_by_dictionary_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"text": pyarrow.array(["a", "b", "a"]).dictionary_encode()})
    with ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as file:
        file.write_table(table)
    with pytest.raises(AssetError, match=r"encoded by a dictionary; write them as plain values"):
        read(tmp_path / "a.arrow")


def test_stream_resumes_and_workers_yield_the_same(tmp_path: Path) -> None:
    stores.check_resume_and_workers(write(tmp_path / "a.arrow", numbered(700), 20))


def test_store_holds_every_row_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", 10_000)
    path = write(tmp_path / "a.arrow", numbered(300), 20)
    settings = stores.settings_for(path, tmp_path / "store")
    made = stores.build(settings)
    train, validation = (made.report(split) for split in plan.SPLITS)
    assert len(made.shards) > 4
    assert train.trained + validation.trained == 300 and train.held_out == validation.trained > 0
    write(path, numbered(301), 20)
    with pytest.raises(AssetError, match=r"a\.arrow: \d+ bytes, \d+ when the store was built"):
        stores.open_stream(settings)


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.arrow", numbered(1), 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"Arrow files need pyarrow: pip install 'codex-jax\[hf\]'"):
        read(path)
