"""`codex-jax run reproduce`: a run made once more from its record is the same, and what is not is named."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forged
import pytest
import small_run

from codex_jax.checkpoint import store


pytestmark = [pytest.mark.infra, pytest.mark.slow]

SHORT = {"train.num_steps": 8, "eval.every_steps": 4}


def reproduce(*arguments: object, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codex_jax.cli.app", "run", "reproduce", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def again(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run `a` and, beside it, the same made once more; no test writes to them."""
    directory = tmp_path_factory.mktemp("runs")
    small_run.finish(small_run.arguments(corpus, directory / "a", SHORT), main_env)
    done = reproduce("a", env=main_env, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\nreproduced: 8 steps, \d+ rows and \d+ events of the ledger, \d+ leaves\s", done.stdout)
    assert "not as it was" not in done.stderr
    assert "SIGTERM" not in done.stderr  # it ended of itself
    return directory


def test_run_of_the_same_record_is_the_same(again: Path, main_env: dict[str, str]) -> None:
    unnamed = [[{**row, "run_id": ""} for row in small_run.metric_rows(again / name)] for name in ("a", "a-again")]
    assert unnamed[0] == unnamed[1]
    assert small_run.state_digest(again / "a", 8) == small_run.state_digest(again / "a-again", 8)
    told = json.loads(reproduce("a", "--json", env=main_env, cwd=again).stdout)
    assert (told["reproduced"], told["step"], told["made_with"]) == (True, 8, [])
    assert told["settings"]["a"] == told["settings"]["b"]
    assert {row["name"] for row in told["assets"]} == {"data", "tokenizer", "safety"}
    # Each step, the baseline, two evaluations and what the policy found by then.
    assert told["ledger"]["rows"] >= 8 + 1 + 2 and told["ledger"]["events"] >= 4


def test_ledger_that_was_tampered_with_is_found(again: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(again / "a", tmp_path / "a")
    path = tmp_path / "a" / "metrics.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row in rows if (row["step"], row["split"]) == (5, "train"))
    row["metrics"]["loss"] = 1.25
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = reproduce("a", "--workdir", again / "a-again", env=main_env, cwd=tmp_path)
    assert done.returncode == 1
    assert "not reproduced: they part at step 5: train/loss is 1.25 then, " in done.stderr
    told = json.loads(reproduce("a", "--workdir", again / "a-again", "--json", env=main_env, cwd=tmp_path).stdout)
    assert told["ledger"]["first"]["step"] == 5 and told["state"]["equal"] is True


def test_event_that_was_tampered_with_is_found(again: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(again / "a", tmp_path / "a")
    path = tmp_path / "a" / "events.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    sample = next(row for row in rows if row["event"] == "sample")
    sample["text"] = "what it never said"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = reproduce("a", "--workdir", again / "a-again", env=main_env, cwd=tmp_path)
    assert done.returncode == 1
    assert "they part at step 4: text of the event sample is 'what it never said' then" in done.stderr


def test_leaf_that_differs_is_named(again: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(again / "a", tmp_path / "a")
    name = next(name for name in store.load(again / "a" / "checkpoints" / "8").leaves if name.endswith("/kernel"))
    forged.change_leaf(tmp_path / "a" / "checkpoints" / "8", name)
    done = reproduce("a", "--workdir", again / "a-again", env=main_env, cwd=tmp_path)
    assert done.returncode == 1
    assert "the ledgers are equal, but 1 of " in done.stderr


def test_run_that_was_interrupted_is_compared_up_to_its_last_checkpoint(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    """It was saved at a step that is none of checkpoint.every_steps, and would go on much further."""
    args = small_run.arguments(corpus, tmp_path / "a", {"train.num_steps": 5000, "checkpoint.every_steps": 1000})
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 6/5000")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 75
    (last,) = small_run.steps(tmp_path / "a")
    with open(tmp_path / "a" / "metrics.ndjson", "a") as file:  # as after a kill: rows that no checkpoint has
        row: dict[str, Any] = {
            "run_id": "small",
            "step": last + 1,
            "split": "train",
            "time": 1.0,
            "metrics": {"loss": 1},
        }
        file.write(json.dumps(row) + "\n")
    done = reproduce("a", "--json", env=main_env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["reproduced"], told["step"]) == (True, last)
    assert last in small_run.steps(tmp_path / "a-again")


def test_other_data_are_refused_before_training_and_found_where_they_are_now(
    corpus: Path, again: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(again / "a", tmp_path / "a")
    shutil.copytree(corpus, tmp_path / "moved")
    shutil.copytree(corpus, tmp_path / "other")
    with open(tmp_path / "other" / "part01.txt", "a") as file:
        file.write("one more line\n")
    done = reproduce("a", "--workdir=b", "--config.data.paths=other", env=main_env, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "what a was made of is not there any more (SHA-256):\n  data: " in done.stderr
    assert "--config.data.paths=..." in done.stderr
    done = reproduce("a", "--workdir=c", "--config.data.paths=moved", env=main_env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = reproduce("a", "--workdir=d", "--config.data.paths=nowhere", env=main_env, cwd=tmp_path)
    assert done.returncode == 3 and "nowhere" in done.stderr


def test_what_is_not_as_it_was_is_named_and_another_run_is_refused(
    again: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(again / "a", tmp_path / "a")
    path = tmp_path / "a" / "provenance.json"
    record = json.loads(path.read_text())
    record["versions"]["jax"], record["git"] = "0.1", None
    record["hardware"]["cpu"] = "another"
    path.write_text(json.dumps(record))
    done = reproduce("a", "--workdir", again / "a-again", env=main_env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not as it was: versions.jax: '0.1' then, " in done.stderr
    assert "not as it was: hardware.cpu: 'another' then, " in done.stderr
    for wrong, says in (
        (("--config.run.seed=1",), "run.seed decides numbers"),
        (("--workdir=a",), "is the run itself"),
        (("--step=7",), "has no checkpoint of step 7"),
    ):
        done = reproduce("a", *wrong, env=main_env, cwd=tmp_path)
        assert done.returncode in (2, 3) and says in done.stderr
