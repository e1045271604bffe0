"""Both packages start threads and processes, change logging and the environment: they run in a process of their own."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

RUN = """
import dataclasses, sys
from pathlib import Path
import small_writer
from codex_jax.tracking import multi_writer, registry

workdir, sink, last, resume_step, shift = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
source = small_writer.source(workdir, {f"{sink}.enabled": True}, run_id="r-1", tags={"safety.bypass": "a drill"})
source.settings["train"]["num_steps"] += shift
with multi_writer.open_writer(source, registry.chosen(source.tracking), resume_step=resume_step) as writer:
    for step in range(resume_step + 1, last + 1):
        writer.scalars(step, "train", {"loss": 8 / step + shift, "grad_norm": float("nan") if step == 2 else 1.0})
        writer.text(step, "default", f"sample {step} \\N{SNOWMAN}")
"""

READ_MLFLOW = """
import json, os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
from mlflow.tracking import MlflowClient
client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow.db")
runs = client.search_runs([client.get_experiment_by_name("codex_jax").experiment_id])
points = [
    (point.step, key, None if point.value != point.value else point.value)
    for run in runs for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)
]
samples = [file.path for run in runs for file in client.list_artifacts(run.info.run_id, "samples/default")]
facts = [runs[0].info.status, runs[0].data.params, points, samples, runs[0].data.tags.get("safety.bypass")]
print(json.dumps([[run.info.run_id for run in runs], *facts]))
"""


def environment():
    # MLflow turns its telemetry off where it sees these: a test would pass without our doing.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GITHUB", "CI"))}
    return {**clean, "PYTHONPATH": os.pathsep.join(sys.path)}


def python(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=180)
    assert done.returncode == 0, done.stderr
    return done


def values_of_ledger(workdir):
    rows = ledger.read(workdir / ledger.METRICS)
    return in_order(
        (row["step"], f"{row['split']}/{name}", value) for row in rows for name, value in row["metrics"].items()
    )


def in_order(points):
    """Sort points of which some are nan or null; wandb writes 1.0 as 1."""
    return sorted((step, name, repr(float("nan" if value is None else value))) for step, name, value in points)


def assert_undegraded(workdir):
    assert [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"].startswith("sink.")] == []


def test_mlflow_agrees_with_the_ledger_after_a_resume_and_keeps_its_run(tmp_path):
    first = python(RUN, tmp_path, "mlflow", 6, 0, 0)
    runs_before = json.loads(python(READ_MLFLOW, tmp_path).stdout)[0]
    second = python(RUN, tmp_path, "mlflow", 5, 3, 1)
    runs, status, params, points, samples, bypass = json.loads(python(READ_MLFLOW, tmp_path).stdout)
    assert_undegraded(tmp_path)
    assert bypass == "a drill"
    assert (first.stderr, second.stderr) == ("", "")
    assert (runs, status) == (runs_before, "FINISHED")
    assert params["train.num_steps"] == "1001"
    assert in_order(points) == values_of_ledger(tmp_path)
    assert samples == [f"samples/default/{step:08d}.txt" for step in range(1, 6)]


READ_WANDB = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2
data, record, offset, points = open(sys.argv[1], "rb").read(), b"", 7, []
while offset < len(data):  # LevelDB's log format: blocks of 32 KB, pieces of records with a header of 7 bytes
    room = 32768 - offset % 32768
    if room < 7:
        offset += room
        continue
    length, kind = struct.unpack_from("<HB", data, offset + 4)
    record += data[offset + 7 : offset + 7 + length]
    offset += 7 + length
    if kind in (1, 4):  # whole, or the last piece
        message, record = wandb_internal_pb2.Record.FromString(record), b""
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in message.history.item}
        points += [(row["step"], name, value) for name, value in row.items() if "/" in name]
print(json.dumps(points))
"""


def test_wandb_agrees_with_the_ledger_after_a_resume_in_one_offline_run(tmp_path):
    first = python(RUN, tmp_path, "wandb", 6, 0, 0)
    second = python(RUN, tmp_path, "wandb", 5, 3, 1)
    assert_undegraded(tmp_path)
    assert (first.stderr, second.stderr) == ("", "")
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    points = json.loads(python(READ_WANDB, folder / "run-r-1.wandb").stdout)
    texts = [(step, value) for step, name, value in points if name == "sample/default"]
    assert texts == [(step, f"sample {step} \N{SNOWMAN}") for step in range(1, 6)]
    numbers = [point for point in points if point[1].startswith("train/")]
    assert in_order(numbers) == values_of_ledger(tmp_path)


@pytest.mark.security
@pytest.mark.parametrize("sink", ["mlflow", "wandb"])
def test_no_socket_to_a_network_is_opened(tmp_path, sink):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace), sys.executable, "-c", RUN]
    subprocess.run([*command, str(tmp_path / "run"), sink, "2", "0", "0"], check=True, env=environment(), timeout=300)
    assert_undegraded(tmp_path / "run")
    assert "AF_INET" not in trace.read_text()
