"""A run goes on with what is changed only where that is allowed by name; it ends early, and saves when asked to."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra

SHORT = {"train.num_steps": 4, "checkpoint.every_steps": 4, "eval.every_steps": 4}


def ended(args: list[str], env: Mapping[str, str], code: int) -> str:
    process = small_run.start(args, env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def events(workdir: Path, name: str) -> list[dict[str, Any]]:
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == name]


def meta_of(workdir: Path, step: int) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((workdir / f"checkpoints/{step}/meta.json").read_text())["meta"]
    return meta


@pytest.mark.slow
def test_changes_are_refused_by_name_and_allowed_by_name(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    small_run.finish(small_run.arguments(corpus, run, SHORT), main_env)
    assert meta_of(run, 4)["why"] == "end"
    assert set(meta_of(run, 4)["digests"]) == {"config", "data", "tokenizer", "safety"}
    assert meta_of(run, 4)["evaluation"]["loss"] > 0

    longer = {**SHORT, "train.num_steps": 8, "optimizer.learning_rate": 1e-4, "optimizer.final_learning_rate": 1e-5}
    output = ended(small_run.arguments(corpus, run, longer), main_env, 2)
    names = ["optimizer.final_learning_rate", "optimizer.learning_rate", "train.num_steps"]
    assert all(f"  {name}: " in output for name in names) and f"allow_change={','.join(names)}" in output
    assert events(run, "run.changed") == []

    # And other data: told apart from the settings, since they are known later.
    other = small_run.write_corpus(tmp_path / "other", seed=5)
    allowed = {**longer, "checkpoint.allow_change": ",".join(names)}
    moved = {**allowed, "tokenizer.path": run / "tokenizer"}
    output = ended(small_run.arguments(other, run, moved), main_env, 3)
    assert "data.corpus: " in output and "allow_change=data.corpus" in output
    moved["checkpoint.allow_change"] = ",".join([*names, "data.corpus"])
    small_run.finish(small_run.arguments(other, run, moved), main_env)
    (event,) = events(run, "run.changed")
    assert list(event["changes"]) == ["data.corpus", *names]
    assert event["changes"]["train.num_steps"] == {"before": 4, "now": 8}
    assert [row["step"] for row in small_run.metric_rows(run) if row["split"] == "train"] == list(range(1, 9))
    # The next time nothing has changed any more, and what is allowed in vain is misspelt.
    moved["checkpoint.allow_change"] = "train.num_step"
    output = ended(small_run.arguments(other, run, moved), main_env, 2)
    assert "allow_change names what is neither a setting nor data: train.num_step" in output
    moved["checkpoint.allow_change"] = ""
    assert "finished   at step 8 already" in small_run.finish(small_run.arguments(other, run, moved), main_env)


def test_run_that_gets_no_better_ends_early_and_stays_ended(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    still = {
        "optimizer.learning_rate": 0.0,
        "optimizer.final_learning_rate": 0.0,
        "eval.every_steps": 2,
        "eval.patience": 2,
        "checkpoint.every_steps": 5,
    }
    args = small_run.arguments(corpus, tmp_path, still)
    said = "validation loss got no better in 2 evaluations, which is eval.patience=2"
    assert f"finished   at step 6: {said}" in small_run.finish(args, main_env)
    (last,) = events(tmp_path, "run.finished")
    assert (last["step"], last["status"]) == (6, "finished") and "eval.patience=2" in last["reason"]
    assert meta_of(tmp_path, 6)["why"] == "end"
    output = small_run.finish(args, main_env)
    assert f"finished   at step 6 already: {said}" in output and output.count(said) == 1
    assert max(row["step"] for row in small_run.metric_rows(tmp_path)) == 6


@pytest.mark.slow
def test_file_save_and_the_best_evaluations_are_saved(corpus: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    changes = {
        "train.num_steps": 100000,
        "checkpoint.every_steps": 100000,
        "checkpoint.keep_best": 2,
        "eval.every_steps": 4,
    }
    process = small_run.start(small_run.arguments(corpus, tmp_path, changes), main_env)
    small_run.wait_for(process, "step 8 validation")
    (tmp_path / "SAVE").touch()
    small_run.wait_until(lambda: not (tmp_path / "SAVE").exists(), process)
    metas = {step: meta_of(tmp_path, step) for step in small_run.steps(tmp_path)}
    assert "asked" in {meta["why"] for meta in metas.values()}
    assert "best" in {meta["why"] for meta in metas.values()}
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    newest = max(small_run.steps(tmp_path))
    assert f"after step {newest}, which is saved" in output
    # "best" where the signal came in the last of its steps: nothing is saved twice.
    assert meta_of(tmp_path, newest)["why"] in ("signal", "best")
