"""An encoder is trained as by a user: it learns to guess what is hidden, and a run that went on equals a whole one."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import small_run


if TYPE_CHECKING:
    from conftest import RunMain

pytestmark = pytest.mark.infra

CHANGES = {
    "model.mlp_width": 64,
    "model.vocab_size": 512,
    "tokenizer.vocab_size": 512,
    "train.num_steps": 60,
    "train.global_batch_size": 16,
    "train.microbatch_size": 8,
    "checkpoint.every_steps": 30,
    "checkpoint.keep_last": 3,
    "eval.every_steps": 30,
    "optimizer.learning_rate": 0.01,
    "generate.prompt": "the [MASK] norm",
}


def arguments(corpus: Path, workdir: Path) -> list[str]:
    root = Path(__file__).resolve().parents[2]
    return [f"--config={root}/configs/minilm_mlm.py:tiny", *small_run.arguments(corpus, workdir, CHANGES)[1:]]


def test_guesses_get_better_and_a_run_that_goes_on_equals_a_whole_one(run_main: "RunMain", tmp_path: Path) -> None:
    corpus = small_run.write_corpus(tmp_path / "corpus")
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = run_main(arguments(corpus, whole))
    assert done.returncode == 0, done.stderr
    losses = [row["metrics"]["loss"] for row in small_run.metric_rows(whole) if row["split"] == "validation"]
    baseline = next(row for row in small_run.metric_rows(whole) if row["split"] == "baseline")
    assert losses[-1] < min(losses[0], baseline["metrics"]["unigram_entropy"])
    samples = [event["text"] for event in small_run.replayed_events(whole) if event["event"] == "sample"]
    assert len(samples) == 2 and all("[MASK]" not in text and text.endswith("norm") for text in samples)

    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints" / "60")
    again = run_main(arguments(corpus, part))
    assert again.returncode == 0 and "from step 30" in again.stdout, again.stderr
    assert small_run.state_digest(part, 60) == small_run.state_digest(whole, 60)
    assert small_run.metric_rows(part) == small_run.metric_rows(whole)


def test_what_cannot_be_trained_so_is_refused(run_main: "RunMain", tmp_path: Path) -> None:
    corpus = small_run.write_corpus(tmp_path / "corpus")
    for given, said in (
        ("data.objective=causal", "a model of family bert is trained by data.objective=masked"),
        ("model.ending=pooled", "with model.ending=hidden it gets a head"),
        ("tokenizer.kind=hf", "the tokenizer has no mask_token"),
        ("generate.prompt=the norm", "an encoder fills in [MASK]"),
        ("train.random_fraction=0.3", "their sum is above 1"),
    ):
        done = run_main([*arguments(corpus, tmp_path / "run"), f"--config.{given}"])
        assert done.returncode == 2 and said in done.stderr, (given, done.stderr)
