"""An encoder is trained as by a user: it learns to guess what is hidden, and a run that went on equals a whole one."""

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import small_run


if TYPE_CHECKING:
    from conftest import RunMain

pytestmark = [pytest.mark.infra, pytest.mark.slow]

CHANGES = {
    "model.width": 64,
    "model.num_heads": 4,
    "model.mlp_width": 128,
    "model.vocab_size": 512,
    "tokenizer.vocab_size": 512,
    "train.num_steps": 300,
    "model.dropout": 0.0,
    "data.document_bytes": 128,
    "train.global_batch_size": 16,
    "train.microbatch_size": 8,
    "train.log_every": 20,
    "checkpoint.every_steps": 150,
    "checkpoint.keep_last": 3,
    "eval.every_steps": 150,
    "optimizer.learning_rate": 0.002,
    "generate.prompt": "the [MASK] norm",
}


def write_corpus(directory: Path) -> Path:
    """Write texts of words in a fixed order, from any of them on: what is hidden follows from what is beside it."""
    words, draw = small_run.WORDS.split(), random.Random(0)
    directory.mkdir()
    for number in range(8):
        lines = [" ".join((words * 2)[(at := draw.randrange(len(words))) : at + 9]) for _ in range(120)]
        (directory / f"part{number}.txt").write_text("\n".join(lines) + "\n")
    return directory


def arguments(corpus: Path, workdir: Path) -> list[str]:
    root = Path(__file__).resolve().parents[2]
    return [f"--config={root}/configs/minilm_mlm.py:tiny", *small_run.arguments(corpus, workdir, CHANGES)[1:]]


def test_guesses_get_better_and_a_run_that_goes_on_equals_a_whole_one(run_main: "RunMain", tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = run_main(arguments(corpus, whole))
    assert done.returncode == 0, done.stderr
    losses = [row["metrics"]["loss"] for row in small_run.metric_rows(whole) if row["split"] == "validation"]
    baseline = next(row for row in small_run.metric_rows(whole) if row["split"] == "baseline")
    assert losses[-1] < min(losses[0], baseline["metrics"]["unigram_entropy"] - 0.05)  # so it reads what is beside
    samples = [event["text"] for event in small_run.replayed_events(whole) if event["event"] == "sample"]
    assert len(samples) == 2 and all("[MASK]" not in text and text.endswith("norm") for text in samples)

    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints" / "300")
    again = run_main(arguments(corpus, part))
    assert again.returncode == 0 and "from step 150" in again.stdout, again.stderr
    assert small_run.state_digest(part, 300) == small_run.state_digest(whole, 300)
    assert small_run.metric_rows(part) == small_run.metric_rows(whole)
