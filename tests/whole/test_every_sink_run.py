"""Whole runs with every sink on: copies are whole, nothing leaves the machine, and a failure shows in all of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import copies
import pytest
import small_run

from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

SINKS = {f"tracking.{name}.enabled": True for name in ("csv", "tensorboard", "mlflow", "wandb")}
# MLflow and W&B are quieter where they see these: a test would pass without our doing.
HINTS = ("PYTEST", "GITHUB", "CI", "MLFLOW", "WANDB", "DO_NOT_TRACK")


def clean(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(HINTS)}


def assert_copies_agree(workdir: Path) -> None:
    expected = copies.of_ledger(workdir)
    assert len(expected) > 100
    assert [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"].startswith("sink.")] == []
    assert copies.of_csv(workdir) == expected
    assert copies.of_mlflow(workdir / "mlflow.db") == expected
    assert copies.of_wandb(workdir) == expected
    found = copies.of_tensorboard(workdir)
    assert found.keys() == expected.keys()
    for key, value in expected.items():  # TensorBoard holds float32
        assert found[key] == (None if value is None else pytest.approx(value, rel=1e-6))


def connections(trace: Path) -> list[str]:
    """Return the connections a traced program tried to make that end outside of this machine."""
    tried = [line for line in trace.read_text(errors="replace").splitlines() if " connect(" in line or "send" in line]
    inet = [line for line in tried if "AF_INET" in line]
    return [line for line in inet if not re.search(r'inet_addr\("127\.|"::1"', line) or "htons(53)" in line]


@pytest.mark.security
def test_a_run_with_every_sink_is_copied_whole_and_asks_no_network(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace, workdir = tmp_path / "trace", tmp_path / "run"
    args = small_run.arguments(corpus, workdir, SINKS)
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    for under in (traced, []):  # a run that is finished is begun once more: nothing is in a copy twice
        done = subprocess.run(
            [*under, sys.executable, "-m", "codex_jax.main", *args],
            env=clean(main_env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    assert "finished   at step 16 already" in done.stdout
    assert trace.read_text().count("connect(") > 0, "W&B's process is always connected to: the trace saw nothing"
    assert connections(trace) == []
    assert_copies_agree(workdir)
    assert_files_are_in_the_copies(workdir)


def assert_files_are_in_the_copies(workdir: Path) -> None:
    (mlflow,) = workdir.glob("mlflow/*/artifacts")
    (wandb,) = workdir.glob("wandb/offline-run-*/files")
    for copy in (mlflow, wandb):
        for name in ("config.json", "provenance.json", "report.html"):
            assert (copy / name).read_bytes() == (workdir / name).read_bytes()
    (figure,) = (workdir / "figures").iterdir()
    assert (mlflow / "figures" / figure.name).read_bytes() == figure.read_bytes()
    assert [path.read_bytes() for path in wandb.glob("media/images/**/*.png")] == [figure.read_bytes()]
    (image,) = copies.tensorboard_events(workdir).Images("figure/loss")
    assert image.encoded_image_string == figure.read_bytes() and (image.width, image.height) == (640, 400)


def test_a_copy_for_another_machine_is_refused_before_anything_is_made(
    corpus: Path, run_main: Any, tmp_path: Path
) -> None:
    away = {"tracking.mlflow.enabled": True, "tracking.mlflow.uri": "http://10.0.0.1:5000"}
    done = run_main(small_run.arguments(corpus, tmp_path / "run", away))
    assert done.returncode == 2 and "tracking.allow_remote=true" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_failure_is_told_as_without_sinks_and_every_copy_says_failed(
    corpus: Path, main_env: dict[str, str], run_main: Any, tmp_path: Path
) -> None:
    rates = {"optimizer.learning_rate": 1e30, "optimizer.final_learning_rate": 1e20, "optimizer.warmup_steps": 0}
    changes = {**rates, "optimizer.clip_norm": 0, "checkpoint.every_steps": 1, "train.num_steps": 8}
    said = []
    for name, sinks in (("bare", {"tracking.csv.enabled": False}), ("copied", SINKS)):
        done = run_main(small_run.arguments(corpus, tmp_path / name, {**changes, **sinks}))
        assert done.returncode == 4
        said.append(done.stderr.replace(name, "run").splitlines()[-1])
    assert said[0] == said[1] and "its loss is nan" in said[0]
    workdir = tmp_path / "copied"
    assert copies.query(workdir / "mlflow.db", "SELECT status FROM runs") == [("FAILED",)]
    assert [one.exit.exit_code for one in copies.wandb_records(workdir) if one.HasField("exit")] == [1]
    assert copies.of_csv(workdir) == copies.of_ledger(workdir)


# Something raises in the main thread while steps are made: an error that is none of this program's own.
BUG = """
import signal, sys
from pathlib import Path
from codex_jax import overrides, train
from codex_jax.signals import StopRequest

class Bug(Exception):
    pass

bug, ledger = Bug("of the loop"), Path(sys.argv[2]) / "metrics.ndjson"

def strike(number, frame):
    if ledger.exists() and ledger.read_text().count('"train"') >= 20:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise bug

settings, origin = overrides.load(sys.argv[1], overrides.parse(sys.argv[3:], ()))
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
try:
    train.train(settings, origin, Path(sys.argv[2]), StopRequest())
except Bug as caught:
    print("unchanged" if caught is bug and caught.args == ("of the loop",) else repr(caught))
"""


def test_a_bug_in_the_loop_comes_out_unchanged_and_every_copy_says_failed(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    config, _, *keys = small_run.arguments(corpus, workdir, {**SINKS, "train.num_steps": 100_000})
    command = [sys.executable, "-c", BUG, config.removeprefix("--config="), str(workdir), *keys]
    done = subprocess.run(command, env=clean(main_env), capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "unchanged"), done.stderr
    (row,) = [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == "run.finished"]
    assert (row["status"], row["reason"]) == ("stopped", "Bug: of the loop")
    assert copies.query(workdir / "mlflow.db", "SELECT status FROM runs") == [("FAILED",)]
    assert [one.exit.exit_code for one in copies.wandb_records(workdir) if one.HasField("exit")] == [1]
    assert "Bug: of the loop" in (workdir / "report.html").read_text()
    assert_copies_agree(workdir)


BAD_SINKS = """
import threading
from codex_jax.tracking.sinks.csv_file import CsvSink

class Raising(CsvSink):
    def scalars(self, *row):
        raise ConnectionError("no tracker")
    text = artifact = figure = flush = scalars

class Hanging(CsvSink):
    def scalars(self, *row):
        threading.Event().wait()
    text = artifact = figure = flush = scalars
"""


def test_sinks_that_raise_and_hang_cost_an_event_each_and_no_number(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    info = tmp_path / "site" / "bad_sinks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-sinks\nVersion: 1.0\n")
    points = "[codex_jax.sinks]\nraising = bad_sinks:Raising\nhanging = bad_sinks:Hanging\n"
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "site" / "bad_sinks.py").write_text(BAD_SINKS)
    env = {**main_env, "PYTHONPATH": f"{tmp_path / 'site'}:{main_env.get('PYTHONPATH', '')}"}
    bad = {"tracking.plugins": "raising,hanging", "tracking.csv.enabled": False, "tracking.tensorboard.enabled": True}
    small_run.finish(small_run.arguments(corpus, tmp_path / "plain", {}), main_env)
    said = small_run.finish(small_run.arguments(corpus, tmp_path / "run", bad), env)
    assert (said.count("raising is dropped"), said.count("hanging is dropped")) == (1, 1)
    told = [row for row in ledger.read(tmp_path / "run" / ledger.EVENTS) if row["event"].startswith("sink.")]
    assert [(row["event"], row["sink"]) for row in told] == [("sink.degraded", "raising"), ("sink.degraded", "hanging")]
    assert told[0]["reason"] == "ConnectionError: no tracker" and "given up" in told[1]["reason"]
    assert small_run.metric_rows(tmp_path / "run") == small_run.metric_rows(tmp_path / "plain")
    assert small_run.state_digest(tmp_path / "run", 16) == small_run.state_digest(tmp_path / "plain", 16)
    assert copies.of_tensorboard(tmp_path / "run").keys() == copies.of_ledger(tmp_path / "run").keys()
