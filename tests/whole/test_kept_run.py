"""What a whole run keeps, and what the commands say of it: of two runs that are equal, and of a copy."""

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.checkpoint import document, layout
from codex_jax.cli import app
from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

KEPT = {"checkpoint.keep_last": 1, "checkpoint.keep_every": 8}
# The learning rate rises until training no longer gets better, but worse: the best evaluation is one in the middle.
BEST = {
    **KEPT,
    "checkpoint.keep_best": 1,
    "eval.every_steps": 3,
    "optimizer.learning_rate": 1.0,
    "optimizer.warmup_steps": 16,
}


@pytest.fixture(scope="module")
def straight(corpus: Path, main_env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("kept") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, KEPT), main_env)
    return workdir


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = app.main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_run_keeps_what_its_settings_name(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(layout.steps(straight / "checkpoints")) == [8, 16]
    code, told = said(capsys, "checkpoint", "list", straight, "--verify")
    assert code == 0
    assert [(row["step"], row["kept"]) for row in told["checkpoints"]] == [
        (16, "newest, last 1, every 8"),
        (8, "every 8"),
    ]
    assert all(row["time"] and row["state"] == "whole" for row in told["checkpoints"])
    assert said(capsys, "checkpoint", "prune", straight)[1]["goes"] == []


def test_killed_and_resumed_run_is_equal_by_both_commands(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = small_run.arguments(corpus, tmp_path / "run", KEPT)
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 11/")
    process.kill()
    process.communicate()
    small_run.finish(args, main_env)
    code, told = said(capsys, "checkpoint", "diff", straight, tmp_path / "run")
    assert (code, told["equal"]) == (0, True), told
    code, told = said(capsys, "run", "compare", straight, tmp_path / "run")
    assert (code, told["equal"], told["settings"]) == (0, True, []), told
    assert told["rows"] > 16


def test_run_of_another_seed_parts_at_the_first_step(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run.finish(small_run.arguments(corpus, tmp_path / "run", {**KEPT, "run.seed": 1}), main_env)
    code, told = said(capsys, "run", "compare", straight, tmp_path / "run")
    assert (code, told["first"]["step"], told["first"]["metric"]) == (1, 1, "loss")
    assert [row["name"] for row in told["settings"]] == ["run.seed"]
    code, told = said(capsys, "checkpoint", "diff", straight, tmp_path / "run")
    assert code == 1 and len(told["leaves"]) > 10
    assert [row["name"] for row in told["settings"]] == ["run.seed"]


def test_copied_run_verifies_and_goes_on(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B15."""
    subprocess.run(["cp", "-r", straight, tmp_path / "copy"], check=True)
    code, told = said(capsys, "checkpoint", "verify", tmp_path / "copy")
    assert (code, told["ok"]) == (0, True)
    said_by_run = small_run.finish(small_run.arguments(corpus, tmp_path / "copy", KEPT), main_env)
    assert "finished   at step 16 already" in said_by_run


def saved(workdir: Path) -> list[int]:
    """Return the steps that were acknowledged, in order."""
    return [row["step"] for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == ledger.SAVED]


def best_step(workdir: Path) -> int:
    """Return the step of the best evaluation, of equal ones the newer, by the rows of the ledger."""
    rows = [row for row in small_run.metric_rows(workdir) if row["split"] == "validation"]
    return min((row["metrics"]["loss"], -row["step"]) for row in rows)[1] * -1


@pytest.mark.parametrize("killed", [False, True])
def test_best_evaluation_stays_beside_the_multiples_and_the_newest(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], killed: bool
) -> None:
    run = tmp_path / "run"
    args = small_run.arguments(corpus, run, BEST)
    if killed:
        process = small_run.start(args, main_env)
        small_run.wait_for(process, "step 11/")
        process.kill()
        process.communicate()
    small_run.finish(args, main_env)
    best = best_step(run)
    assert best in (6, 9) and {3, best, 8, 12, 16} <= set(saved(run))
    assert small_run.steps(run) == sorted({best, 8, 16})
    rows = said(capsys, "checkpoint", "list", run, "--verify")[1]["checkpoints"]
    assert [(row["step"], row["why"], row["kept"]) for row in rows] == [
        (16, "end", "newest, last 1, every 8"),
        *sorted([(best, "best", "best 1"), (8, "steps", "every 8")], reverse=True),
    ]


def test_rolling_checkpoints_replace_each_other_and_one_that_was_asked_for_stays(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    changes = {
        "train.num_steps": 100_000,
        "checkpoint.every_steps": 100_000,
        "checkpoint.every_minutes": 0.005,
        "eval.every_steps": 100_000,
    }
    process = small_run.start(small_run.arguments(corpus, tmp_path, changes), main_env)
    small_run.wait_for(process, "step 1/")
    small_run.wait_until(lambda: len(saved(tmp_path)) > 2, process)
    (tmp_path / "SAVE").touch()
    small_run.wait_until(lambda: not (tmp_path / "SAVE").exists(), process)
    asked_before = len(saved(tmp_path))
    small_run.wait_until(lambda: len(saved(tmp_path)) > asked_before + 2, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 75
    assert len(saved(tmp_path)) > 5
    metas = {step: document.glance(tmp_path / "checkpoints" / str(step)) for step in small_run.steps(tmp_path)}
    asked, newest = metas
    assert metas[asked]["why"] == "asked" and metas[newest]["why"] in ("time", "signal")
    assert newest == saved(tmp_path)[-1]
