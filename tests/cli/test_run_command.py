"""`codex-jax run compare`: where two ledgers part, which settings differ, how both end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codex_jax import config, rundir
from codex_jax.tracking.ledger import Ledger


if TYPE_CHECKING:
    from conftest import Command

pytestmark = pytest.mark.infra

Row = tuple[int, str, Mapping[str, float]]
ROWS: list[Row] = [
    (0, "baseline", {"unigram_entropy": 3.0}),
    (1, "train", {"loss": 4.0, "grad_norm": float("nan")}),
    (1, "speed", {"tokens_per_sec": 100.0}),
    (2, "train", {"loss": 3.5, "grad_norm": 1.0}),
    (2, "validation", {"loss": 3.75, "perplexity": 42.5}),
]


def make(run: Path, rows: Sequence[Row], rate: float = 0.1, log_every: int = 1) -> None:
    run.mkdir()
    settings = config.to_dict(config.Config())
    settings["optimizer"]["learning_rate"] = rate
    settings["train"]["log_every"] = log_every
    rundir.begin(run, run.name, settings, {})
    writer = Ledger(run, run_id=run.name, resume_step=0)
    for step, split, metrics in rows:
        writer.metrics(step, split, metrics)
    writer.close()


def test_equal_ledgers_say_so(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", ROWS)
    faster = [row if row[1] != "speed" else (1, "speed", {"tokens_per_sec": 999.0}) for row in ROWS]
    make(tmp_path / "b", faster)
    done = command("run", "compare", "a", "b")
    assert (done.code, done.err) == (0, "")
    assert "the ledgers are equal: 4 rows, times and speed aside\nno setting differs\n" in done.out
    assert [line.split() for line in done.out.splitlines()][-7:] == [
        ["LATEST", "A", "B"],
        ["baseline/unigram_entropy", "3", "3"],
        ["train/loss", "3.5", "3.5"],
        ["train/grad_norm", "1", "1"],
        ["speed/tokens_per_sec", "100", "999"],
        ["validation/loss", "3.75", "3.75"],
        ["validation/perplexity", "42.5", "42.5"],
    ]


def test_first_value_that_differs_is_named_with_the_settings(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", ROWS)
    other = [
        *ROWS[:3],
        (2, "train", {"loss": 3.5, "grad_norm": 1.5}),
        (2, "validation", {"loss": 9.0, "perplexity": 1}),
    ]
    make(tmp_path / "b", other, rate=0.2, log_every=2)
    done = command("run", "compare", "a", "b")
    assert (done.code, done.err) == (1, "codex_jax: the ledgers differ\n")
    assert "they part at step 2: train/grad_norm is 1.0 in A, 1.5 in B" in done.out
    assert "optimizer.learning_rate  0.1 in A, 0.2 in B" in done.out
    assert "train.log_every  1 in A, 2 in B (decides no number)" in done.out
    told = json.loads(command("run", "compare", "a", "b", "--json").out)
    assert told["first"] == {"step": 2, "split": "train", "metric": "grad_norm", "a": 1.0, "b": 1.5}
    assert told["final"]["validation/loss"] == {"a": 3.75, "b": 9.0}
    assert [(row["name"], row["decides"]) for row in told["settings"]] == [
        ("optimizer.learning_rate", True),
        ("train.log_every", False),
    ]
    assert (told["equal"], told["rows"], told["only_a"], told["only_b"]) == (False, 4, 0, 0)


def test_rows_of_one_side_alone_are_counted(tmp_path: Path, command: "Command") -> None:
    """A run that logs less, or has not come so far, agrees as far as it goes."""
    make(tmp_path / "a", [*ROWS, (3, "train", {"loss": 1.0})])
    make(tmp_path / "b", [ROWS[0], ROWS[3], ROWS[4]])
    done = command("run", "compare", "a", "b")
    assert done.code == 1
    assert "where both have a row they agree: 3 rows\nonly A has 2 rows\n" in done.out
    told = json.loads(command("run", "compare", "b", "a", "--json").out)
    assert (told["first"], told["rows"], told["only_a"], told["only_b"]) == (None, 3, 0, 2)


def test_number_that_is_not_finite_differs_from_one_that_is_not_there(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", [(1, "train", {"loss": 4.0, "grad_norm": float("nan")})])
    make(tmp_path / "b", [(1, "train", {"loss": 4.0})])
    told = json.loads(command("run", "compare", "a", "b", "--json").out)
    assert told["first"] == {"step": 1, "split": "train", "metric": "grad_norm", "a": None, "b": None}


def test_what_is_no_run_is_refused(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", ROWS)
    done = command("run", "compare", "a", "nowhere")
    assert done.code == 3 and "nowhere is not the directory of a run" in done.err
    make(tmp_path / "b", ROWS)
    with open(tmp_path / "b" / "metrics.ndjson", "r+") as file:
        file.write("x")
    assert command("run", "compare", "a", "b").code == 3
