"""`codex-jax metrics replay --to mlflow` to a real server: one whole MLflow run, with the times of the run itself."""

import json
import subprocess
import sys
from pathlib import Path

import copies
import mlflow_servers
import pytest
import small_writer

from codex_jax import config, rundir
from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run of some time ago that had no copies."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    rundir.begin(workdir, "r1", config.to_dict(small_writer.settings({})), {})
    with small_writer.bare(workdir) as writer:
        writer.event("run.started", 0, {})
        for step in range(1, 6):
            writer.scalars(step, "train", {"loss": 1 / step})
        writer.event("run.finished", 5, {"status": "finished"})
    for name in (ledger.METRICS, ledger.EVENTS):
        rows = [json.loads(line) for line in (workdir / name).read_text().splitlines()]
        for row in rows:
            row["time"] = 1_700_000_000.0 + 60 * row["step"]
        (workdir / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workdir


def replay(workdir: Path, uri: str) -> dict[str, object]:
    command = [sys.executable, "-m", "codex_jax.cli.app", "metrics", "replay", str(workdir), "--to", "mlflow", "--json"]
    if uri:
        command += [f"--config.tracking.mlflow.uri={uri}"]
    env = mlflow_servers.clean_environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, object] = json.loads(done.stdout)  # one document, and nothing of MLflow's
    return told


@pytest.mark.parametrize("is_server", [False, True])
def test_a_run_of_long_ago_is_there_once_with_its_own_times(made: Path, tmp_path: Path, is_server: bool) -> None:
    server = mlflow_servers.Real(tmp_path)
    if is_server:
        server.start()
    try:
        for _ in range(2):
            assert replay(made, server.uri if is_server else "")["calls"] == {"scalars": 5}
    finally:
        server.kill()
    database = server.database if is_server else made / "mlflow.db"
    assert copies.of_mlflow(database) == copies.of_ledger(made)
    (row,) = copies.query(database, "SELECT status, start_time, end_time FROM runs")
    assert row == ("FINISHED", 1_700_000_000_000, 1_700_000_300_000)
