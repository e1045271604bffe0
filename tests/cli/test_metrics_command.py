"""`codex-jax metrics`: tables, files and replays of a run's ledger, and what it refuses."""

import csv
import json
import math
from pathlib import Path

import copies
import pytest
import small_writer
from pyarrow import parquet

from codex_jax import config, rundir
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra


@pytest.fixture
def run(command):
    return lambda *arguments: command("metrics", *arguments)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The directory of a run that had no copies."""
    workdir = tmp_path / "run"
    settings = small_writer.settings({})
    workdir.mkdir()
    rundir.begin(workdir, "r1", config.to_dict(settings), {})
    with small_writer.bare(workdir) as writer:
        writer.event("run.started", 0, {})
        for step in range(1, 6):
            writer.scalars(step, "train", {"loss": 1 / step, "grad_norm": math.nan if step == 2 else 1.5})
            writer.text(step, "sample", "a")
        writer.scalars(5, "validation", {"loss": 0.25, "tokens": 10**17, "huge": 10**30})
        writer.event("run.finished", 5, {"status": "finished"})
    return workdir


def test_list_and_summary_tell_what_was_measured(run, made: Path) -> None:
    done = run("list", "run")
    assert done.code == 0
    assert ["train/loss", "5", "1-5"] in [line.split() for line in done.out.splitlines()]
    found = {row["name"]: row for row in json.loads(run("summary", "run", "--json").out)}
    assert list(found) == ["train/grad_norm", "train/loss", "validation/huge", "validation/loss", "validation/tokens"]
    assert found["train/loss"] == {
        "name": "train/loss",
        "values": 5,
        "non_finite": 0,
        "first_step": 1,
        "last_step": 5,
        "first": 1.0,
        "last": 0.2,
        "min": 0.2,
        "max": 1.0,
    }
    assert (found["train/grad_norm"]["values"], found["train/grad_norm"]["non_finite"]) == (5, 1)
    assert "1 not finite" in run("summary", "run").out
    assert json.loads(run("list", "run", "--json").out)[1] == {
        "name": "train/loss",
        "values": 5,
        "first_step": 1,
        "last_step": 5,
    }


def read_csv(file: Path) -> list[tuple]:
    with open(file, newline="") as opened:
        _, *rows = csv.reader(opened)
    return [(int(step), split, name, float(at) if at else None, float(time)) for step, split, name, at, time in rows]


def read_sqlite(file: Path) -> list[tuple]:
    return copies.query(file, "SELECT step, split, name, value, time FROM metrics ORDER BY rowid")


def read_parquet(file: Path) -> list[tuple]:
    return [tuple(row.values()) for row in parquet.read_table(file).to_pylist()]


@pytest.mark.parametrize(("ending", "read"), [("csv", read_csv), ("sqlite", read_sqlite), ("parquet", read_parquet)])
def test_an_exported_file_holds_every_value(run, made: Path, tmp_path: Path, ending: str, read) -> None:
    done = run("export", "run", "--to", f"out.{ending}")
    assert (done.code, done.out) == (0, f"out.{ending}: 13 values\n")
    expected = [
        (row["step"], row["split"], name, value, row["time"])
        for row in ledger.read(made / ledger.METRICS)
        for name, value in row["metrics"].items()
    ]
    assert read(tmp_path / f"out.{ending}") == expected
    assert [path.name for path in tmp_path.glob("out*")] == [f"out.{ending}"]
    again = run("export", "run", "--to", f"out.{ending}")
    assert again.code == 2 and "is there already" in again.err


def test_what_the_machine_was_at_is_listed_and_exported_too(run, made: Path, tmp_path: Path) -> None:
    row = {"run_id": "r1", "step": 3, "time": 4.5, "metrics": {"cpu_percent": 12.5, "load_1m": None}}
    (made / "system.ndjson").write_text(json.dumps(row) + '\n{"run_id": "r1", "st')
    assert ["system/cpu_percent", "1", "3-3"] in [line.split() for line in run("list", "run").out.splitlines()]
    assert run("export", "run", "--to", "out.csv").code == 0
    assert read_csv(tmp_path / "out.csv")[-2:] == [
        (3, "system", "cpu_percent", 12.5, 4.5),
        (3, "system", "load_1m", None, 4.5),
    ]


def test_norms_of_each_layer_do_not_bury_the_others(run, made: Path) -> None:
    with small_writer.bare(made, resume_step=5) as writer:
        many = {f"weight_norm/blocks/{number}/attention_norm/scale": 1.0 for number in range(40)}
        writer.scalars(6, "layers", many)
    for command in ("list", "summary"):
        out = run(command, "run").out
        assert "layers/weight_norm" not in out and "train/loss" in out
        assert "and 40 of layers/, which --json and" in out
        assert sum(row["name"].startswith("layers/") for row in json.loads(run(command, "run", "--json").out)) == 40


def test_an_export_is_refused_where_it_cannot_be(run, made: Path, tmp_path: Path) -> None:
    assert run("export", "run", "--to", "out.xlsx").code == 2
    assert run("export", "nowhere", "--to", "out.csv").code == 3
    for ending in ("csv", "sqlite", "parquet"):
        assert run("export", "run", "--to", f"no/such/out.{ending}").code == 4
    lines = (made / ledger.METRICS).read_text().splitlines()
    (made / ledger.METRICS).write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    done = run("export", "run", "--to", "out.sqlite")
    assert done.code == 3 and "line 2 is damaged" in done.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(("name", "read"), [("csv", copies.of_csv), ("tensorboard", copies.of_tensorboard)])
def test_replaying_twice_makes_the_copy_once(run, made: Path, name: str, read) -> None:
    for _ in range(2):
        done = run("replay", "run", "--to", name)
        assert (done.code, done.out.split(":")[0]) == (0, f"{name} holds run")
        found, expected = read(made), copies.of_ledger(made)
        assert found.keys() == expected.keys()
        assert all(at is None or at == pytest.approx(expected[key], rel=1e-6) for key, at in found.items())
    samples = {} if name == "csv" else {"text": 5}  # a table of numbers has no place for them
    assert json.loads(run("replay", "run", "--to", name, "--json").out)["calls"] == {"scalars": 6, **samples}
    assert ("5 samples" in done.out) == bool(samples)


def test_a_replay_is_refused_where_it_cannot_be(run, made: Path) -> None:
    assert "has no 'paper'" in run("replay", "run", "--to", "paper").err
    remote = run("replay", "run", "--to", "mlflow", "--config.tracking.mlflow.uri=http://10.0.0.1")
    assert remote.code == 2 and "allow_remote" in remote.err
    assert run("replay", "run", "--to", "csv", "--config.tracking.csvv.enabled=true").code == 2
    assert run("replay", "nowhere", "--to", "csv").code == 3
    with rundir.claim(made):
        held = run("replay", "run", "--to", "csv")
    assert held.code == 2 and "is training in" in held.err


def test_a_tool_that_takes_nothing_ends_a_replay_with_its_own_words(run, made: Path) -> None:
    (made / "metrics.csv").mkdir()
    done = run("replay", "run", "--to", "csv")
    assert done.code == 4 and "csv did not take all of run: IsADirectoryError" in done.err


def test_a_directory_that_is_no_run_is_named(run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("list", "empty")
    assert done.code == 3 and "metrics.ndjson is missing" in done.err
