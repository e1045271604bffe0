"""A bypass from the environment: it needs a reason, lets blocked texts through, and is told wherever the run is."""

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.cli import app
from codex_jax.tracking import ledger


pytestmark = [pytest.mark.security, pytest.mark.infra]

WHY = {"CODEX_SAFETY_BYPASS_REASON": "a drill"}


@pytest.fixture
def run(tmp_path: Path, run_main: Any) -> Any:
    """Run on a corpus of which a rule blocks a document, with a prompt that it blocks as well."""
    policy, corpus = tmp_path / "policy.yaml", tmp_path / "corpus.txt"
    policy.write_text("version: 1\nextends: default\nrules:\n  - {id: deny, literals: [forbidden], action: block}\n")
    words = " ".join(small_run.WORDS.split())
    corpus.write_text("".join(f"{words} {number}\n" for number in range(99)) + f"what is forbidden {words}\n")
    changes = {
        "data.document": "line",
        "data.window_bytes": 1_000_000,
        "safety.policy": policy,
        "generate.prompt": "all that is forbidden",
        "train.num_steps": 2,
    }

    def run(env: Mapping[str, str], others: Mapping[str, Any] | None = None) -> Any:
        return run_main(small_run.arguments(corpus, tmp_path / "run", {**changes, **(others or {})}), env=env)

    return run


@pytest.mark.parametrize("value", ["1", pytest.param("true", marks=pytest.mark.slow)])
def test_bypass_of_the_environment_is_told_in_stderr_ledger_and_audit(
    value: str, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = value == "true"
    done = run({"CODEX_SAFETY_BYPASS": value, **WHY}, {"tracking.mlflow.enabled": mlflow})
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("safety.bypass=true: what the policy blocks is let through. The reason given: a drill") == 1
    )
    rows = list(ledger.read(tmp_path / "run" / ledger.EVENTS))
    (enabled,) = [row for row in rows if row["event"] == "safety.bypass_enabled"]
    assert (enabled["enabled"], enabled["bypass"], enabled["reason"]) == (True, True, "a drill")
    passed = [row for row in rows if row["event"] == "safety.bypassed"]
    assert {(row["stage"], row["rule"], row["action"]) for row in passed} >= {("prompt", "deny", "bypass")}
    assert {row.get("file", "") for row in passed} == {"", str(tmp_path / "corpus.txt")}
    assert "forbidden" not in (tmp_path / "run" / ledger.EVENTS).read_text()
    if mlflow:
        with contextlib.closing(sqlite3.connect(tmp_path / "run" / "mlflow.db")) as database:
            assert database.execute("SELECT value FROM tags WHERE key = 'safety.bypass'").fetchall() == [("a drill",)]
    assert app.main(["safety", "audit", str(tmp_path / "run")]) == 0
    assert "bypassed: a drill" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (WHY, "generate.prompt"),
        ({"CODEX_SAFETY_BYPASS": "1"}, "needs a reason"),
        pytest.param(
            {"CODEX_SAFETY_BYPASS": "perhaps", **WHY}, "safety.bypass: 'perhaps' is not a bool", marks=pytest.mark.slow
        ),
    ],
)
def test_without_it_or_its_reason_the_start_is_refused(
    env: Mapping[str, str], expected: str, run: Any, tmp_path: Path
) -> None:
    done = run(env)
    assert done.returncode == 2 and expected in done.stderr
    assert not (tmp_path / "run" / ledger.EVENTS).exists()
