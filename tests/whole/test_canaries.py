"""Secrets planted wherever a run takes something in: none of them is in a file that the run leaves."""

import json
import random
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.tracking import ledger


pytestmark = [pytest.mark.security, pytest.mark.infra]

CONFIG = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "configs")!r})
import gpt2

def get_config(size=None):
    made = gpt2.get_config("tiny")
"""
DRAW = random.Random(7)
ALNUM = string.ascii_letters + string.digits


def drawn(prefix: str, count: int, letters: str = ALNUM) -> str:
    return prefix + "".join(DRAW.choices(letters, k=count))


def canaries(count: int) -> list[str]:
    """Values of forms that are well known, each another."""
    kinds = [
        lambda: drawn("AK" + "IA", 16, string.ascii_uppercase + "234567"),
        lambda: drawn("gl" + "pat-", 20),
        lambda: drawn("xo" + "xb-", 12, string.digits) + "-" + drawn("", 24),
        lambda: drawn("AI" + "za", 35),
        lambda: drawn("sk_" + "live_", 24),
        lambda: drawn("hf" + "_", 34, string.ascii_letters),
        lambda: drawn("canary", 8, string.digits) + "@" + "example.org",
    ]
    return [kinds[number % len(kinds)]() for number in range(count)]


def files_with(directory: Path, secrets: list[str]) -> list[tuple[str, str]]:
    """Which secret is in which file; a file is searched for what is left of each as well: its last twelve letters."""
    found = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found += [(str(path), secret) for secret in secrets if secret[-12:].encode() in content]
    return found


@pytest.mark.parametrize("sinks", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ledger", "all"])
def test_no_canary_is_in_what_a_run_leaves(sinks: bool, run_main: Any, tmp_path: Path) -> None:
    rows, (prompt, in_file, argument, variable, remote, name) = canaries(24), canaries(6)
    corpus = tmp_path / f"{name}.jsonl"  # which messages name
    words = " ".join(small_run.WORDS.split())
    lines = [json.dumps({"text": f"{words} {number} token {secret} {words}"}) for number, secret in enumerate(rows)]
    lines += [json.dumps({"text": f"{words} {number}"}) for number in range(200)]
    corpus.write_text("\n".join(lines) + "\n{broken " + rows[0] + "\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(
        ["git", "-C", str(tmp_path), "remote", "add", "origin", f"https://{remote}@example.org/x.git"], check=True
    )
    changes = {
        "generate.prompt": f"the model {prompt} token",
        "safety.bypass_reason": f"none, {argument}",
        **{f"tracking.{sink}.enabled": sinks for sink in ("csv", "tensorboard", "mlflow", "wandb")},
    }
    workdir = tmp_path / "run"
    config = tmp_path / "own.py"
    config.write_text(f"{CONFIG}    made.data.prompt_separator = '{in_file}'\n    return made\n")
    changes |= {"train.num_steps": 8, "data.window_bytes": 1_000_000}
    env = {"MY_SETTING": variable, "CODEX_RUN_ID": "canaries"}
    _, *args = small_run.arguments(corpus, workdir, changes)
    done = run_main([f"--config={config}", *args], env=env)
    assert done.returncode == 0, done.stderr
    planted = [*rows, prompt, in_file, argument, variable, remote, name]
    assert len(set(planted)) == 30
    # What goes wrong is written down, too: the rows that cannot be read, with their file, are the reason of the end.
    _, *args = small_run.arguments(corpus, tmp_path / "second", {**changes, "data.max_quarantined": 0})
    failed = run_main([f"--config={config}", *args], env=env)
    assert failed.returncode == 4 and name in failed.stderr
    (ended,) = [row for row in ledger.read(tmp_path / "second" / ledger.EVENTS) if row["event"] == "run.finished"]
    assert "could not be read" in ended["reason"] and "[REDACTED:" in ended["reason"]
    assert files_with(workdir, planted) == [] and files_with(tmp_path / "second", planted) == []
    assert [secret for secret in planted if secret in done.stdout] == []
    events = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()]
    assert sum(event["event"] == "safety.redacted" for event in events) >= 24  # all of the rows, and the prompt


@pytest.mark.slow
def test_nothing_is_hidden_in_what_a_run_without_secrets_leaves(run_main: Any, tmp_path: Path) -> None:
    """A rule that takes a name or a word of this program for a secret would show in one of these files."""
    corpus = tmp_path / "corpus.jsonl"
    words = " ".join(small_run.WORDS.split())
    corpus.write_text("".join(json.dumps({"text": f"{words} {number}"}) + "\n" for number in range(200)))
    sinks = {f"tracking.{sink}.enabled": True for sink in ("csv", "tensorboard", "mlflow", "wandb")}
    done = run_main(small_run.arguments(corpus, tmp_path / "run", {**sinks, "train.num_steps": 8}))
    assert done.returncode == 0, done.stderr
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"config.json", "provenance.json", "events.ndjson", "mlflow.db"} <= {path.name for path in written}
    assert [str(path) for path in written if re.search(rb"\[(REDACTED|BLOCKED):", path.read_bytes())] == []
