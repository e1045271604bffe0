"""What a whole run keeps, and what the commands say of it: of two runs that are equal, and of a copy."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.checkpoint import layout
from codex_jax.cli import app


pytestmark = [pytest.mark.infra, pytest.mark.slow]

KEPT = {"checkpoint.keep_last": 1, "checkpoint.keep_every": 8}


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
