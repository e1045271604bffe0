"""Documents to train on that lie in validation files as well: found in any kind of file, counted, and left out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from corpora import TOKENIZER, opened, resolve, text, write_jsonl

from codex_jax import config
from codex_jax.data import pipeline, stores
from codex_jax.data.report import Report
from codex_jax.errors import AssetError


pytestmark = pytest.mark.data


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Forty documents to train on, and thirteen to validate on, of which three are among them."""
    train = write_jsonl(tmp_path / "train.jsonl", range(40))
    validation = write_jsonl(tmp_path / "validation.jsonl", [3, 7, 39, *range(100, 110)])
    paths = {"data__paths": (str(train),), "data__validation_paths": (str(validation),)}
    return {**paths, "data__window_bytes": 100_000, "data__sequence_length": 200}  # one window, whole documents


def epoch(settings: config.Config) -> tuple[set[int], Report]:
    """The numbers of the documents in the first rows of the training stream, an epoch and more, and its counts."""
    mixture = opened(settings)
    if settings.data.mode == "store":
        stores.make(settings, mixture, TOKENIZER)
    stream = pipeline.train_stream(settings, mixture, TOKENIZER, 1)
    try:
        batches = [next(stream)]
        (report,) = stream.take_reports()
        batches += [next(stream) for _ in range(60)]
    finally:
        stream.close()
    words = " ".join(TOKENIZER.decode(batch.tokens_BL[0].tolist()) for batch in batches)
    return {number for number in range(40) if text(number) in words}, report


@pytest.mark.parametrize("mode", ["stream", "store"])
@pytest.mark.parametrize(("policy", "dropped"), [("drop", {3, 7, 39}), ("keep", set())])
def test_copies_are_left_to_validation_or_kept_and_counted_either_way(
    files: dict[str, Any], tmp_path: Path, mode: str, policy: str, dropped: set[int]
) -> None:
    where = {"data__store": str(tmp_path / "store")} if mode == "store" else {}
    settings = resolve(**files, **where, data__mode=mode, data__duplicates=policy, data__packing="first_fit")
    seen, report = epoch(settings)
    assert not seen & dropped and len(seen) == 40 - len(dropped)
    assert (report.read, report.duplicates, report.held_out) == (40, 3, len(dropped))
    assert report.read == report.trained + report.held_out + report.filtered + report.quarantined


@pytest.mark.parametrize("workers", [0, 1])
def test_fail_names_the_place(files: dict[str, Any], workers: int) -> None:
    settings = resolve(**files, data__duplicates="fail", data__workers=workers)
    with pytest.raises(
        Exception, match=r"train\.jsonl:(4|8|40) \(byte \d+\): is also a document of validation_paths"
    ) as caught:
        epoch(settings)
    assert isinstance(caught.value, AssetError)
    assert not hasattr(caught.value, "__notes__")  # a note is printed, and Grain would give advice on its traceback


def test_a_copy_is_found_in_another_kind_of_file_and_another_source(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", range(10))
    held_out = tmp_path / "held_out.csv"
    held_out.write_text("text\n" + "".join(json.dumps(text(number)) + "\n" for number in (2, 5)))
    settings = config.default()
    config.add_source(settings, "rows", paths=(str(rows),))
    config.add_source(settings, "table", paths=(str(held_out),), validation_paths=(str(held_out),))
    made = config.resolve(settings.to_dict())
    found = {part.name: part for part in opened(made)}
    assert found["rows"].copies.digests_D.size == 2
    assert found["rows"].copies.content()
    (kept, _) = opened(dataclasses.replace(made, data=dataclasses.replace(made.data, duplicates="keep")))
    assert not kept.copies.content()


def test_position_is_one_of_these_copies(files: dict[str, Any], tmp_path: Path) -> None:
    def fingerprint(**changes: Any) -> Any:
        settings = resolve(**{**files, **changes})
        stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 1)
        stream.close()
        return stream.fingerprint

    other = write_jsonl(tmp_path / "other.jsonl", [3, *range(200, 210)])
    whole = fingerprint()
    assert whole == fingerprint()
    assert whole != fingerprint(data__duplicates="keep")
    assert whole != fingerprint(data__validation_paths=(str(other),))
