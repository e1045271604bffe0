"""A held-out split as a whole: every document once, streamed, whatever a mixture weighs."""

import hashlib
from pathlib import Path

import pytest
from corpora import TOKENIZER, opened, resolve, text, write_jsonl

from codex_jax import config
from codex_jax.data import pipeline, whole
from codex_jax.data.documents import split_of
from codex_jax.errors import AssetError, ConfigError, TrainingStopped


pytestmark = pytest.mark.data


def of(settings: config.Config, split: str, batch_size: int = 4) -> whole.Whole:
    return pipeline.whole_split(settings, opened(settings), TOKENIZER, batch_size, split)


def documents(batches: whole.Whole) -> list[str]:
    """The documents, each in a row of its own."""
    found = []
    for batch in batches:
        assert batch.tokens_BL.shape[0] == 4
        for tokens_L, segments_L in zip(batch.tokens_BL, batch.segments_BL, strict=True):
            for number in range(1, segments_L.max() + 1):
                found.append(TOKENIZER.decode(tokens_L[segments_L == number].tolist()).removesuffix("<|endoftext|>"))
    return sorted(found)


def mixed(tmp_path: Path, **changes: object) -> config.Config:
    settings = resolve(data__validation_fraction=0.3, data__test_fraction=0.3, **changes)
    parts = {
        name: config.Ingredient(paths=(str(write_jsonl(tmp_path / f"{name}.jsonl", numbers)),), weight=weight)
        for name, numbers, weight in (("a", range(100), 0.9), ("b", range(100, 140), 0.1))
    }
    values = config.to_dict(settings)
    values["data"] |= {"mix": {name: vars(part) for name, part in parts.items()}, "packing": "first_fit"}
    values["data"] |= {"sequence_length": 120}
    values["model"]["context_length"] = 120
    return config.resolve(values)


def expected(split: str) -> list[str]:
    digests = {number: hashlib.sha256(text(number).encode()).hexdigest() for number in range(140)}
    return sorted(text(number) for number, digest in digests.items() if split_of(digest, 0.3, 0.3) == split)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_document_of_a_split_comes_once(split: str, tmp_path: Path) -> None:
    batches = of(mixed(tmp_path), split)
    assert documents(batches) == expected(split)
    report = batches.report
    assert (report.read, report.trained) == (140, len(expected(split))) and not report.findings


def test_batches_are_made_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", range(2000))
    batches = of(resolve(data__paths=(str(path),), data__validation_fraction=0.5), "validation", 1)
    next(batches)
    assert 0 < batches.report.read < 100


def test_no_such_split_and_none_of_it_and_bad_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", range(3))
    with pytest.raises(ConfigError, match="kept no documents for a test"):
        of(resolve(data__paths=(str(path),)), "test")
    with pytest.raises(AssetError, match="none of the 3 documents read is of this split"):
        next(of(resolve(data__paths=(str(path),), data__test_fraction=1e-9), "test"))
    path.write_bytes(path.read_bytes() + b"no json\n")
    with pytest.raises(TrainingStopped, match="1 of 4 documents"):
        list(of(resolve(data__paths=(str(path),), data__validation_fraction=0.5), "validation"))
