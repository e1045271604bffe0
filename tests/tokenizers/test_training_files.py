"""Tokenizers trained on files: equal corpus and seed give equal bytes, wherever they lie and however they are read."""

import json
import os
from pathlib import Path

import kinds_examples
import pytest

from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, manifest
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.lines import CHUNK_BYTES, Lines
from codex_jax.tokenizers.training import Job


pytestmark = pytest.mark.data


def job(directory: Path, kind: str = "hf", algorithm: str = "unigram", chunk: int = CHUNK_BYTES) -> Job:
    directory.mkdir(exist_ok=True)
    files = tuple(directory / f"{number}.txt" for number in range(len(kinds_examples.TEXTS)))
    for path, text in zip(files, kinds_examples.TEXTS, strict=True):
        path.write_bytes(f"{text}zero two\n".encode())
    lines = Lines(files=files, chunk_bytes=chunk)
    return Job(lines=lines, kind=kind, recipe=Recipe(400, algorithm, 0.9995), seed=7, train_bytes=10**6)


KINDS = [("hf", "unigram"), ("sentencepiece", "unigram"), ("sentencepiece", "bpe"), ("whitespace", "unigram")]


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_equal_corpus_and_seed_give_equal_bytes(tmp_path: Path, kind: str, algorithm: str) -> None:
    for name in ("first", "second"):
        job(tmp_path / f"corpus of {name}", kind, algorithm).run(tmp_path / name, force=False)
    names = sorted(os.listdir(tmp_path / "first"))
    assert names == sorted(os.listdir(tmp_path / "second")) and manifest.NAME in names
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    listed = json.loads((tmp_path / "first" / manifest.NAME).read_text())
    assert sorted([*listed["files"], manifest.NAME]) == names
    assert listed["config"]["seed"] == 7 and len(listed["corpus"]["sha256"]) == 64


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_chunks_of_three_bytes_give_the_same_ids(tmp_path: Path, kind: str, algorithm: str) -> None:
    whole = job(tmp_path / "corpus", kind, algorithm).run(tmp_path / "whole", force=False)
    chunks = job(tmp_path / "corpus", kind, algorithm, chunk=3).run(tmp_path / "chunks", force=False)
    assert chunks.digest == whole.digest
    assert chunks.encode(["zero two"])[0].tolist() == whole.encode(["zero two"])[0].tolist()
    config = json.loads((tmp_path / "chunks" / manifest.NAME).read_text())["config"]
    assert (config["streaming"], config["chunk_bytes"]) == (True, 3)


def test_other_corpus_is_seen_in_the_manifest(tmp_path: Path) -> None:
    first = job(tmp_path / "corpus")
    digests = [first.lines.digest()]
    first.lines.files[0].write_text("other")
    assert first.lines.digest() not in digests


def test_trained_tokenizer_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    work = job(tmp_path / "corpus", "sentencepiece")
    work.run(tmp_path / "out", force=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    other = job(tmp_path / "corpus")
    with pytest.raises(AssetError, match=r"out is not empty; .*--force"):
        other.run(tmp_path / "out", force=False)
    made = other.run(tmp_path / "out", force=True)
    assert loading.load(tmp_path / "out").digest == made.digest
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        ["tokenizer.json", "tokenizer_config.json", manifest.NAME, "notes.txt"]
    )


def test_kind_that_is_not_trained_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    job(tmp_path / "corpus").run(tmp_path / "out", force=False)
    with pytest.raises(ConfigError, match="of kind gpt2 are not trained"):
        job(tmp_path / "corpus", "gpt2").run(tmp_path / "out", force=True)
    assert manifest.verify(tmp_path / "out")


@pytest.mark.parametrize("kind", ["hf", "sentencepiece"])
def test_failed_attempt_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    work = job(tmp_path / "corpus", kind)
    work.run(tmp_path / "out", force=False)
    work.lines.files[0].write_text("many words before what is wrong\n" * 1000)
    work.lines.files[-1].write_bytes(b"\xff")
    with pytest.raises(AssetError, match="not UTF-8"):
        work.run(tmp_path / "out", force=True)
    assert manifest.verify(tmp_path / "out")
