"""A loss that jumps sends the run back; what it leaves out then is left out when it is killed and resumed, too."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
import small_run

from codex_jax.journal import health
from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]


@pytest.fixture
def changes(tmp_path: Path) -> dict[str, object]:
    """A corpus that is soon learnt by heart, with one document of random letters."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(3):
        (corpus / f"part{number}.txt").write_text("the model learns the data. " * 220)
    (corpus / "noise.txt").write_bytes(bytes(random.Random(0).choices(range(33, 127), k=600)))
    (tmp_path / "held_out.txt").write_text("the model learns the data. " * 160)
    return {
        "data.paths": corpus,
        "data.validation_paths": tmp_path / "held_out.txt",
        "data.duplicates": "keep",
        "optimizer.learning_rate": 0.003,
        "train.num_steps": 40,
        "train.spike_factor": 6,
        "train.spike_window": 8,
        "checkpoint.every_steps": 5,
        "eval.every_steps": 40,
    }


def spikes(workdir: Path) -> list[int]:
    rows = ledger.read(workdir / ledger.EVENTS)
    return [row["step"] for row in rows if row["event"] == "step.spike"]


def losses(workdir: Path) -> list[float]:
    return [row["metrics"]["loss"] for row in small_run.metric_rows(workdir) if row["split"] == "train"]


def test_run_goes_back_and_leaves_the_batches_of_a_spike_out(
    changes: dict[str, object], main_env: Mapping[str, str], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    small_run.finish(small_run.arguments(corpus, tmp_path / "noted", changes), main_env)
    seen = spikes(tmp_path / "noted")
    assert seen and health.rewinds(tmp_path / "noted") == []

    args = small_run.arguments(corpus, tmp_path / "straight", {**changes, "train.max_rewinds": 9})
    small_run.finish(args, main_env)
    left_out = health.rewinds(tmp_path / "straight")
    assert left_out[0] == [seen[0] - 1] * 2  # batch n is that of step n + 1
    assert spikes(tmp_path / "straight") == []
    before = seen[0] - 1
    assert losses(tmp_path / "straight")[:before] == losses(tmp_path / "noted")[:before]
    assert losses(tmp_path / "straight")[before] < losses(tmp_path / "noted")[before]
    meta = json.loads((tmp_path / "straight/checkpoints/40/meta.json").read_text())["meta"]
    assert meta["totals"]["skipped_batches"] == len({batch for batch, _ in left_out})

    args = small_run.arguments(corpus, tmp_path / "killed", {**changes, "train.max_rewinds": 9})
    for after in ("step 31/", f"step {seen[0]}/"):
        process = small_run.start(args, main_env)
        small_run.wait_for(process, after)
        process.kill()
        process.communicate()
    small_run.finish(args, main_env)
    assert small_run.metric_rows(tmp_path / "killed") == small_run.metric_rows(tmp_path / "straight")
    assert small_run.state_digest(tmp_path / "killed", 40) == small_run.state_digest(tmp_path / "straight", 40)


def test_run_that_went_back_as_often_as_it_may_stops(
    changes: dict[str, object], main_env: Mapping[str, str], tmp_path: Path
) -> None:
    tight = {**changes, "train.max_rewinds": 1, "train.spike_factor": 2.0, "train.spike_window": 4}
    process = small_run.start(small_run.arguments(tmp_path / "corpus", tmp_path / "run", tight), main_env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 4, output
    assert "The run went back as often as train.max_rewinds=1 allows" in output
    assert len(health.rewinds(tmp_path / "run")) == 1
