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
    assert {key: copies.of_mlflow(workdir / "mlflow.db").get(key) for key in expected} == expected
    assert {key: copies.of_wandb(workdir).get(key) for key in expected} == expected
    found = copies.of_tensorboard(workdir)
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
    done = subprocess.run(
        [*traced, sys.executable, "-m", "codex_jax.main", *args],
        env=clean(main_env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
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
