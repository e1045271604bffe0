"""`codex-jax run`: what a run was; where two ledgers part, which settings differ, how both end."""

import contextlib
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


def test_show_tells_what_it_was_and_how_it_ended(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", ROWS)
    writer = Ledger(tmp_path / "a", run_id="a", resume_step=2)
    writer.event("run.started", 0, {"parameters": 124_439_808, "trained_parameters": 124_439_808})
    writer.event("checkpoint.saved", 2, {"digest": "ab", "bytes": 1})
    writer.event("run.resumed", 2, {"from_step": 2, "skipped": []})
    writer.event("run.finished", 2, {"status": "interrupted", "reason": "a signal came after step 2, which is saved"})
    writer.close()
    (tmp_path / "a" / "checkpoints" / "2").mkdir(parents=True)
    hardware = {"cpu": "a cpu", "cores": {"logical": 8}, "devices": ["H100", "H100"], "fingerprint": "f" * 64}
    record = {
        "git": {"commit": "c" * 40, "dirty": True, "diff": {"file": "dirty.diff"}},
        "code": {"sha256": "d" * 64},
        "versions": {"jax": "0.10.0", "python": "3.12.1"},
        "hardware": hardware,
        "digests": {"config": "e" * 64, "data": "0" * 64},
    }
    rundir.write_json(tmp_path / "a" / "provenance.json", record)
    done = command("run", "show", "a")
    assert (done.code, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    expected = [
        "model gpt2, 124,439,808 parameters",
        "seed 0",
        "code commit cccccccccccc with changes (dirty.diff), jax 0.10.0, python",
        "machine a cpu, 8 cores, 2 x H100",
        "steps 0 to 2 of 1,000",
        "resumed from step 2",
        "checkpoints 2",
        "config eeeeeeeeeeeeeeee",
        "hardware ffffffffffffffff",
        "train/loss 3.5",
        "best validation loss 3.75 at step 2",
    ]
    assert [line for line in expected if line not in lines] == []
    assert "interrupted" in done.out and "a signal came after step 2" in " ".join(lines)
    assert not [line for line in lines if line.startswith("speed/")]
    told = json.loads(command("run", "show", "a", "--json").out)
    assert (told["status"], told["resumed_from"], told["checkpoints"]) == ("interrupted", [2], [2])
    assert told["digests"] == record["digests"] and told["hardware"] == hardware
    assert told["results"]["validation/perplexity"] == 42.5 and told["best"]["step"] == 2


def test_model_of_weights_is_named_as_the_run_did(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", ROWS)
    record = json.loads((tmp_path / "a" / "config.json").read_text())
    record["settings"]["model"] = {"name": "", "weights": "some/llama"}
    rundir.write_json(tmp_path / "a" / "config.json", record)
    assert ["model", "-"] in [line.split() for line in command("run", "show", "a").out.splitlines()]
    with contextlib.closing(Ledger(tmp_path / "a", run_id="a", resume_step=2)) as writer:
        writer.event("run.started", 0, {"model": "llama", "parameters": 1000})
    assert ["model", "llama,", "1,000", "parameters"] in [
        line.split() for line in command("run", "show", "a").out.splitlines()
    ]
    command("run", "report", "a")
    assert ">llama · started " in (tmp_path / "a" / "report.html").read_text()


def test_norms_of_each_layer_are_left_to_programs(tmp_path: Path, command: "Command") -> None:
    for name in ("a", "b"):
        make(tmp_path / name, [*ROWS, (2, "layers", {"grad_norm/blocks/0/mlp/up/kernel": 0.5})])
    for arguments in (("show", "a"), ("compare", "a", "b")):
        assert "layers/" not in command("run", *arguments).out
        assert "layers/grad_norm/blocks/0/mlp/up/kernel" in command("run", *arguments, "--json").out


def test_show_of_a_run_of_which_little_is_left(tmp_path: Path, command: "Command") -> None:
    make(tmp_path / "a", [])
    done = command("run", "show", "a")
    assert (done.code, done.err) == (0, "")
    assert "not finished" in done.out and "RESULTS" not in done.out
    (tmp_path / "a" / "provenance.json").write_text("{")
    done = command("run", "show", "a")
    assert done.code == 3 and "provenance.json is damaged" in done.err
    assert command("run", "show", "nowhere").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("a", "--workdir=a"), 2, "is the run itself"),
        (("a",), 3, "has no checkpoint: there is nothing to compare with"),
        (("nowhere",), 3, "is not the directory of a run"),
        (("a", "--workdri=b"), 2, "did you mean --workdir?"),
    ],
)
def test_reproduce_refuses_what_it_cannot_do(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path, command: "Command"
) -> None:
    make(tmp_path / "a", ROWS)
    done = command("run", "reproduce", *arguments)
    assert done.code == code and says in done.err


def test_report_is_written_for_one_run_or_for_several(tmp_path: Path, command: "Command") -> None:
    for name in ("a", "b"):
        make(tmp_path / name, ROWS)
        Ledger(tmp_path / name, run_id=name, resume_step=2).close()
    done = command("run", "report", "a")
    assert (done.code, done.out) == (0, "a/report.html\n") and (tmp_path / "a" / "report.html").is_file()
    done = command("run", "report", "a", "b", "-o", "both.html")
    assert (done.code, done.out) == (0, "both.html\n")
    assert "2 runs side by side" in (tmp_path / "both.html").read_text()
    assert command("run", "report", "a", "b").code == 2
    assert command("run", "report", "nowhere").code == 3
    assert command("run", "report", "a", "nowhere", "-o", "page.html").code == 3
    assert not (tmp_path / "page.html").exists()
