"""ArrayRecord: every record once, whatever the groups and units; bad ones by their number; damage named, resumed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import stores
from corpora import TOKENIZER, flipped, opened, read, resolve, text

from codex_jax.data import corpus as corpora_of
from codex_jax.data import pipeline, plan
from codex_jax.errors import AssetError, ConfigError


pytestmark = pytest.mark.data
module = pytest.importorskip(
    "array_record.python.array_record_module", reason="comes with Grain, on Linux and macOS alone"
)


def write(path: Path, records: list[bytes], group: int = 1, more: str = "") -> Path:
    writer = module.ArrayRecordWriter(str(path), f"group_size:{group}{more}")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def rows(count: int, start: int = 0) -> list[bytes]:
    return [json.dumps({"text": text(number)}).encode() for number in range(start, start + count)]


@pytest.mark.parametrize("more", ["", ",uncompressed", ",transpose:true"])
@pytest.mark.parametrize("group", [1, 7, 300, 1000])
@pytest.mark.parametrize("window", [1024, 100_000_000])
def test_every_record_is_read_once_in_order(tmp_path: Path, window: int, group: int, more: str) -> None:
    path = write(tmp_path / "a.array_record", rows(700), group, more)
    found, report = read(path, data__window_bytes=window)
    assert found == [text(number) for number in range(700)]
    assert (report.read, report.trained) == (700, 700)


def test_units_hold_whole_groups_since_a_part_costs_as_much(tmp_path: Path) -> None:
    data = resolve(data__paths=(str(write(tmp_path / "a.array_record", rows(700), 30)),)).data
    corpus = corpora_of.open_corpus(data, "data")
    sizes = [len(list(corpus.read([unit], data))) for unit in range(corpus.num_units)]
    assert len(sizes) > 100 and sorted({*sizes}) == [0, 10, 30]


def test_parts_of_a_set_are_found_by_the_names_they_are_written_with(tmp_path: Path) -> None:
    write(tmp_path / "books-train.array_record-00001-of-00002", rows(5, 5))
    write(tmp_path / "books-train.array_record-00000-of-00002", rows(5))
    assert read(tmp_path)[0] == [text(number) for number in range(10)]
    assert read(tmp_path / "books-train.array_record-00001-of-00002")[0] == [text(number) for number in range(5, 10)]


def test_instructions_and_chats_are_records_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    records = [{"messages": chat}, {"prompt": "c", "completion": "d"}]
    path = write(tmp_path / "a.arrayrecord", [json.dumps(record).encode() for record in records])
    assert read(path)[0] == ["a|b", "c|d"]


def test_plain_text_is_a_choice_and_never_a_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "a.array_record", [b"plain\n\ntext", rows(1)[0], "é\u2028".encode(), b"\xe9"])
    found, report = read(path, data__text_field="")
    assert found == ["plain\n\ntext", rows(1)[0].decode(), "é\u2028"]
    assert [(row.line, row.reason) for row in report.rows] == [(4, "byte 0xe9 at column 1 is not UTF-8")]
    found, report = read(path)
    assert found == [text(0)] and [row.line for row in report.rows] == [1, 3, 4]


def test_bad_records_are_named_by_number_and_others_delivered(tmp_path: Path) -> None:
    records = rows(9)
    records[3], records[5], records[7] = b'{"body": 1}', b'{"text": "' + b"x" * 300 + b'"}', b"[1]"
    found, report = read(write(tmp_path / "a.array_record", records, 4), data__max_line_bytes=256)
    assert len(found) == 6
    assert str(report.rows[0]) == f"{tmp_path}/a.array_record:4: has no field 'text'"
    assert [(row.line, row.reason) for row in report.rows[1:]] == [
        (6, "longer than data.max_line_bytes=256"),
        (8, "not an object but a list"),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:5000],
        lambda content: content + b"x",
        lambda content: b"no records\0" * 9000,
    ],
)
def test_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    path = write(tmp_path / "a.array_record", rows(900), 30, ",uncompressed")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AssetError, match=r"a\.array_record is not a whole ArrayRecord file: .*; fetch or write"):
        read(path)


def test_flipped_bits_never_change_a_document(tmp_path: Path) -> None:
    path, found = write(tmp_path / "a.array_record", rows(900), 30, ",uncompressed"), set()
    want = [text(number) for number in range(900)]
    for _ in flipped(path, 40):
        try:
            assert read(path)[0] == want  # the bit was one of the padding
            found.add("padding")
        except AssetError:
            found.add("named")
    assert found == {"padding", "named"}


def test_file_without_records_has_nothing_to_learn(tmp_path: Path) -> None:
    found, report = read(write(tmp_path / "a.array_record", []))
    assert (found, report.read) == ([], 0)


def test_stream_resumes_and_workers_yield_the_same(tmp_path: Path) -> None:
    stores.check_resume_and_workers(write(tmp_path / "a.array_record", rows(700), 5, ",uncompressed"))


def test_store_holds_the_documents_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", 20_000)
    path = write(tmp_path / "a.array_record", rows(300), 5)
    settings = stores.settings_for(path, tmp_path / "store")
    made = stores.build(settings)
    assert len(made.shards) > 4
    train, validation = (made.report(split) for split in plan.SPLITS)
    assert train.trained + validation.trained == 300 and train.held_out == validation.trained > 0
    assert next(stores.open_stream(settings)).tokens_BL.shape == (8, 16)
    write(path, rows(301), 5)
    with pytest.raises(AssetError, match=r"a\.array_record: SHA-256"):
        stores.open_stream(settings)


def test_tokenizer_is_trained_on_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path / "cache"))
    settings = resolve(data__paths=(str(write(tmp_path / "a.array_record", rows(200), 5)),))
    made = pipeline.make_tokenizer(settings, opened(settings))
    assert made.decode(made.encode([text(3)])[0]) == text(3) and TOKENIZER.vocab_size == made.vocab_size


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.array_record", rows(1))
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(ConfigError, match="ArrayRecord files need array_record, which comes with Grain"):
        read(path)
