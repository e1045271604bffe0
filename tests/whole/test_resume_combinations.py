"""Resumed twice, a run ends with the same bytes: with dropout, adapters, accumulation or without; data filtered."""

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

# A rule that blocks about a tenth of the lines, and so documents of every source.
POLICY = "version: 1\nrules:\n  - {id: seven, patterns: ' 7[0-9]', action: block}\n"
OF_WEIGHTS = ("num_layers", "num_heads", "width", "vocab_size", "context_length")


def mixture(corpus: Path, directory: Path) -> dict[str, Any]:
    """Two sources with weights, packed, of which a policy blocks some documents."""
    small_run.write_rows(directory / "rows.jsonl", broken=0, whole=900)
    (directory / "policy.yaml").write_text(POLICY)
    return {
        "data.paths": "",
        "data.mix.prose.paths": corpus,
        "data.mix.prose.weight": 0.6,
        "data.mix.rows.paths": directory / "rows.jsonl",
        "data.mix.rows.weight": 0.4,
        "data.packing": "first_fit",
        "safety.policy": directory / "policy.yaml",
    }


@pytest.mark.parametrize(
    ("dropout", "lora", "microbatch"),
    list(itertools.product((0.0, 0.1), (False, True), (4, 1))),
    ids=lambda value: str(value),
)
def test_run_resumed_twice_equals_the_straight_one(
    corpus: Path, base: Path, main_env: Mapping[str, str], tmp_path: Path, dropout: float, lora: bool, microbatch: int
) -> None:
    changes = {**mixture(corpus, tmp_path), "model.dropout": dropout, "train.microbatch_size": microbatch}
    changes["checkpoint.every_steps"] = 2
    if lora:
        adapted = {"model.weights": base, "adapter.rank": 2, "adapter.dropout": dropout}
        changes |= {**dict.fromkeys((f"model.{name}" for name in OF_WEIGHTS), 0), **adapted}
    small_run.finish(small_run.arguments(corpus, tmp_path / "straight", changes), main_env)

    args = small_run.arguments(corpus, tmp_path / "killed", changes)
    draw = random.Random(f"{dropout} {lora} {microbatch}")
    for first in (7, 12):
        process = small_run.start(args, main_env)
        small_run.wait_for(process, f"step {first + draw.randrange(4)}/")
        process.kill()
        process.communicate()
    small_run.finish(args, main_env)

    rows = list(ledger.read(tmp_path / "killed" / ledger.EVENTS))
    assert sum(row["event"] == "run.resumed" for row in rows) == 2
    assert [row for row in rows if row["event"] == "data.report"][-1]["blocked"] > 0
    assert small_run.metric_rows(tmp_path / "killed") == small_run.metric_rows(tmp_path / "straight")
    assert small_run.replayed_events(tmp_path / "killed") == small_run.replayed_events(tmp_path / "straight")
    assert small_run.state_digest(tmp_path / "killed", 16) == small_run.state_digest(tmp_path / "straight", 16)
