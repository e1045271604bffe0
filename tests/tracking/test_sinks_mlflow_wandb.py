"""All copies of one ledger agree. MLflow and W&B start threads and processes: they run in a process of their own."""

import csv
import shutil
import subprocess
import sys

import copies
import mlflow_servers
import pytest

from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

RUN = """
import struct, sys, zlib
from pathlib import Path
import small_writer
from codex_jax.tracking import multi_writer, registry

workdir, last, resume_step, shift = Path(sys.argv[1]), *map(int, sys.argv[2:])
changes = {f"{name}.enabled": True for name in ("csv", "tensorboard", "mlflow", "wandb")}
source = small_writer.source(workdir, changes, run_id="r-1", tags={"safety.bypass": "a drill"})
source.settings["train"]["num_steps"] += shift

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def picture(path):
    path.parent.mkdir(exist_ok=True)
    header, rows = struct.pack(">IIBBBBB", 2, 3, 8, 2, 0, 0, 0), zlib.compress(bytes(21))
    path.write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path

with multi_writer.open_writer(source, registry.chosen(source.tracking), resume_step=resume_step) as writer:
    (workdir / "config.json").write_text(f"of step {resume_step}")
    writer.artifact(resume_step, "config.json", workdir / "config.json")
    for step in range(resume_step + 1, last + 1):
        grad_norm = float("nan") if step == 2 else float("inf") if step == 3 else 1.0
        values = {"loss": 8 / step + shift, "grad_norm": grad_norm, "tokens": 2**53 - step, "tiny": 5e-324}
        values |= {"huge": 10**30, "beyond": 10**400}
        writer.scalars(step, "train", values)
        writer.text(step, "default", f"sample {step}\\n\\N{SNOWMAN} \\ud800")
        writer.histogram(step, "gradients/wte", [0.0, 0.5, 1.0, 2.0], [1, 2, step])
    writer.figure(last, "figure/loss", picture(workdir / "figures" / f"{last}.png"))
    for sink in writer._guards:
        sink.wait_until_open()  # what is said before, W&B does not hear
    print("a word for the terminal")
"""


def run(workdir, last, resume_step, shift):
    command = [sys.executable, "-c", RUN, *map(str, (workdir, last, resume_step, shift))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=mlflow_servers.clean_environment(), timeout=180, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of 6 steps that went on from step 3, with another setting, to step 5."""
    made = tmp_path_factory.mktemp("run")
    run(made, 6, 0, 0)
    before = copies.query(made / "mlflow.db", "SELECT run_uuid FROM runs")
    run(made, 5, 3, 1)
    assert copies.query(made / "mlflow.db", "SELECT run_uuid FROM runs") == before
    assert [row for row in ledger.read(made / ledger.EVENTS) if row["event"].startswith("sink.")] == []
    return made


def test_every_copy_has_each_value_of_each_step_once(workdir):
    expected = copies.of_ledger(workdir)
    assert sorted({step for step, _ in expected}) == [1, 2, 3, 4, 5]
    assert copies.of_csv(workdir) == expected
    assert copies.of_mlflow(workdir / "mlflow.db") == expected
    assert copies.of_wandb(workdir) == expected
    found = copies.of_tensorboard(workdir)
    assert found.keys() == expected.keys()
    for key, value in expected.items():  # TensorBoard holds float32
        assert found[key] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-44))


def test_every_copy_has_the_time_of_each_row(workdir):
    expected = {row["step"]: row["time"] for row in ledger.read(workdir / ledger.METRICS)}
    written = copies.query(workdir / "mlflow.db", "SELECT step, timestamp FROM metrics WHERE key = 'train/loss'")
    assert {step: time / 1000 for step, time in written} == expected
    rows = [copies.row_of(record) for record in copies.wandb_records(workdir)]
    assert {row["step"]: row["time"] for row in rows if "train/loss" in row} == expected
    events = copies.tensorboard_events(workdir)
    for found in (events.Scalars("train/loss"), events.Histograms("gradients/wte")):
        assert {event.step: event.wall_time for event in found} == pytest.approx(expected, abs=0.1)
    with open(workdir / "metrics.csv", newline="") as file:
        assert {int(row["step"]): float(row["time"]) for row in csv.DictReader(file)} == expected


def test_every_copy_that_can_has_the_samples(workdir):
    texts = [f"sample {step}\n\N{SNOWMAN} ?" for step in range(1, 6)]
    assert [path.read_text() for path in sorted(workdir.glob("mlflow/*/artifacts/samples/default/*"))] == texts
    rows = [copies.row_of(record) for record in copies.wandb_records(workdir)]
    assert [row["sample/default"] for row in rows if "sample/default" in row] == texts
    events = copies.tensorboard_events(workdir)
    assert [event.step for event in events.Tensors("sample/default/text_summary")] == [1, 2, 3, 4, 5]


def test_histograms_are_where_there_is_a_place_for_them(workdir):
    expected = [(step, [1, 2, step]) for step in range(1, 6)]
    found = copies.tensorboard_events(workdir).Histograms("gradients/wte")
    assert [(event.step, event.histogram_value.bucket) for event in found] == expected
    assert found[0].histogram_value.bucket_limit == [0.5, 1.0, 2.0]
    rows = [copies.row_of(record) for record in copies.wandb_records(workdir)]
    kept = [row for row in rows if row.get("gradients/wte/_type") == "histogram"]
    assert [(row["step"], row["gradients/wte/values"]) for row in kept] == expected
    assert kept[0]["gradients/wte/bins"] == [0, 0.5, 1, 2]


def test_files_and_figures_are_where_there_is_a_place_for_them(workdir):
    (mlflow,), (wandb,) = workdir.glob("mlflow/*/artifacts"), workdir.glob("wandb/offline-run-*/files")
    assert (mlflow / "config.json").read_text() == (wandb / "config.json").read_text() == "of step 3"
    assert sorted(path.name for path in (mlflow / "figures").iterdir()) == ["5.png"]
    assert len(list(wandb.glob("media/images/**/*.png"))) == 1
    assert [event.step for event in copies.tensorboard_events(workdir).Images("figure/loss")] == [5]


def test_settings_tags_and_status_are_those_of_the_newest_process(workdir):
    database = workdir / "mlflow.db"
    assert copies.query(database, "SELECT value FROM params WHERE key = 'train.num_steps'") == [("1001",)]
    assert copies.query(database, "SELECT value FROM tags WHERE key = 'safety.bypass'") == [("a drill",)]
    assert copies.query(database, "SELECT status, name FROM runs") == [("FINISHED", "r-1")]
    runs = [record.run for record in copies.wandb_records(workdir) if record.run.run_id]
    assert (runs[0].run_id, list(runs[0].tags)) == ("r-1", ["safety.bypass"])


def test_wandb_keeps_nothing_of_the_machine_the_terminal_and_what_is_installed(workdir):
    (kept,) = workdir.glob("wandb/offline-run-*/files")
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "media"]
    records = list(copies.wandb_records(workdir))
    kinds = {record.WhichOneof("record_type") for record in records}
    assert kinds == {"header", "run", "telemetry", "metric", "summary", "history", "files", "exit"}
    assert {(one.run.host, one.run.git.remote_url, one.run.git.commit) for one in records} == {("", "", "")}
    written = [path for path in workdir.glob("wandb/**/*") if path.is_file()]
    assert [path for path in written if b"for the terminal" in path.read_bytes()] == []


def test_a_copy_of_the_run_directory_leaves_the_first_one_alone(workdir, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(workdir, moved, symlinks=True)
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    run(moved, 6, 5, 1)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    assert copies.of_mlflow(moved / "mlflow.db") == copies.of_ledger(moved)
    assert len(list(moved.glob("mlflow/*/artifacts/samples/default/*"))) == 6
