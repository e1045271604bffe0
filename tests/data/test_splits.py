"""Splits by content: whole, apart, and moved by nothing but the document; the seed of the order."""

import hashlib
from pathlib import Path

import pytest
from corpora import TOKENIZER, opened, resolve, text, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from codex_jax.data import layout, pipeline
from codex_jax.data.documents import split_of
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.errors import ConfigError
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data

SPLITS = ("train", "validation", "test")


@given(st.text(), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_neither_share_moves_the_other(content: str, validation: float, test: float, other: float) -> None:
    digest = hashlib.sha256(content.encode()).hexdigest()
    found = split_of(digest, validation, test)
    assert (found == "validation") == (split_of(digest, validation, other) == "validation")
    assert (found == "test") == (split_of(digest, other, test) == "test")


def test_shares_of_nothing_and_the_ends_of_the_range() -> None:
    lowest, highest = "0" * 64, "f" * 64
    assert [split_of(digest, 0, 0) for digest in (lowest, highest)] == ["train", "train"]
    assert [split_of(digest, 1e-9, 1e-9) for digest in (lowest, highest)] == ["validation", "test"]
    assert {split_of(digest, 0.5, 0.5) for digest in ("7" + "f" * 63, "8" + "0" * 63)} == {"validation", "test"}


def in_splits(path: Path) -> dict[str, list[str]]:
    settings = resolve(data__paths=(str(path),), data__validation_fraction=0.2, data__test_fraction=0.2)
    corpus, data = opened(settings)[0].corpus, settings.data
    found = {}
    for split in SPLITS:
        reader, report = (
            Reader(corpus=corpus, data=data, gate=Gate(policy=None), split=split, layout=layout.contents),
            Report(),
        )
        found[split] = sorted(pieces[0].text for pieces in reader.read(range(corpus.num_units), report))
        assert (report.read, report.held_out) == (report.trained + report.held_out, report.read - len(found[split]))
    return found


def test_union_of_splits_is_the_input_and_another_record_moves_none(tmp_path: Path) -> None:
    before = in_splits(write_jsonl(tmp_path / "a.jsonl", range(300)))
    assert sorted(row for split in SPLITS for row in before[split]) == sorted(text(number) for number in range(300))
    assert all(len(before[split]) > 30 for split in SPLITS)
    after = in_splits(write_jsonl(tmp_path / "a.jsonl", range(301)))
    moved = [split for split in SPLITS if after[split] != before[split]]
    assert len(moved) == 1 and sorted([*before[moved[0]], text(300)]) == after[moved[0]]


def seed_of(path: Path, **changes: int) -> int:
    settings = resolve(data__paths=(str(path),), **changes)
    stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 1)
    stream.close()
    return stream.fingerprint["data.seed"]


def test_seed_of_the_data_is_the_key_then_the_variable_then_that_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", range(3))
    assert seed_of(path, run__seed=5) == 5
    monkeypatch.setenv("CODEX_DATA_SEED", "0")
    assert seed_of(path, run__seed=5) == 0
    assert seed_of(path, run__seed=5, data__seed=7) == 7
    for bad in ("x", "-1", "1.5"):
        monkeypatch.setenv("CODEX_DATA_SEED", bad)
        with pytest.raises(ConfigError, match=f"CODEX_DATA_SEED='{bad}' is not a seed"):
            seed_of(path)


def test_share_for_a_test_needs_a_share_for_validation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.test_fraction=0\.1 is a share of data\.paths"):
        resolve(data__test_fraction=0.1, data__validation_paths=("a",))
