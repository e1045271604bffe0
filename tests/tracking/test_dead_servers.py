"""MLflow servers that refuse, hang, fail, die and come back, a W&B process that is killed: the run does not mind."""

import json
import subprocess
import sys
import time

import copies
import mlflow_servers
import pytest
import small_writer

from codex_jax import config, rundir
from codex_jax.tracking import ledger


pytestmark = [pytest.mark.infra, pytest.mark.slow]

# What a request to a server that does not answer takes at least; no speed is measured here.
WAIT_SECS = 4.0
# Steps of 20 ms, and how long the calls of the writer took of each.
RUN = """
import json, os, signal, sys, time
from pathlib import Path
import psutil, small_writer

workdir, changes, num_steps, kill_at = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
run_id = sys.argv[5]
took = []
began = time.monotonic()
with small_writer.switched_on(workdir, {**changes, "csv.enabled": True}, run_id=run_id) as writer:
    for step in range(1, num_steps + 1):
        time.sleep(0.02)
        start = time.perf_counter()
        writer.scalars(step, "train", {"loss": 8 / step, "grad_norm": float("nan") if step == 2 else 1.0})
        if step % 10 == 0:
            writer.text(step, "sample", f"sample {step}")
        took.append(time.perf_counter() - start)
        if step == kill_at:
            for child in psutil.Process().children(recursive=True):
                if "wandb-core" in child.name():
                    child.send_signal(signal.SIGKILL)
                    print("killed", file=sys.stderr)
    ended = time.monotonic()
print(json.dumps({"took": took, "closing": time.monotonic() - ended}))
"""


def start(workdir, changes, num_steps=200, kill_at=0, env=None, run_id="r1"):
    workdir.mkdir(parents=True, exist_ok=True)
    rundir.begin(workdir, run_id, config.to_dict(small_writer.settings(changes)), {})
    command = [sys.executable, "-c", RUN, str(workdir), json.dumps(changes), str(num_steps), str(kill_at), run_id]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**mlflow_servers.clean_environment(), **(env or {})},
    )


def finish(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out), err


def degraded(workdir):
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == "sink.degraded"]


def assert_none_waited(found):
    """No call waited for a server: one that hangs would have held it for all of its timeout."""
    assert max(found["took"]) < WAIT_SECS


def assert_nothing_was_lost(workdir, num_steps=200):
    assert [row["step"] for row in ledger.read(workdir / ledger.METRICS)] == list(range(1, num_steps + 1))
    assert copies.of_csv(workdir) == copies.of_ledger(workdir)


def metrics(*arguments):
    command = [sys.executable, "-m", "codex_jax.cli.app", "metrics", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=mlflow_servers.clean_environment(), timeout=240, check=False
    )


def to_server(uri):
    return {"mlflow.enabled": True, "mlflow.uri": uri}


@pytest.mark.parametrize("kind", [mlflow_servers.refusing, mlflow_servers.failing, mlflow_servers.silent])
def test_a_server_that_is_no_help_costs_one_event(tmp_path, kind):
    with kind() as uri:
        found, err = finish(start(tmp_path, to_server(uri)))
        replayed = metrics("replay", tmp_path, "--to", "mlflow")
    assert_nothing_was_lost(tmp_path)
    (row,) = degraded(tmp_path)
    assert "given up" not in row["reason"], "the run had to wait until the end for the sink to notice"
    assert row["sink"] == "mlflow" and err.count("mlflow is dropped") == 1
    assert_none_waited(found)
    assert found["closing"] < 35
    assert replayed.returncode == 4 and "mlflow did not take all of" in replayed.stderr
    assert "The ledger is as it was" in replayed.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that is not running yet."""
    made = mlflow_servers.Real(tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


def live(server, run_id="r1"):
    return copies.query(
        server.database,
        "SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE lifecycle_stage = 'active' "
        "AND key = 'codex_jax.run_id' AND value = ?",
        run_id,
    )


def test_a_run_whose_server_was_down_for_all_of_it_is_complete_after_a_replay(tmp_path, server):
    server.kill()
    found, err = finish(start(tmp_path, to_server(server.uri), run_id="r0"))
    assert [row["sink"] for row in degraded(tmp_path)] == ["mlflow"], err
    assert_none_waited(found)
    server.start()
    for _ in range(2):
        done = metrics("replay", tmp_path, "--to", "mlflow")
        assert done.returncode == 0, done.stderr
        assert copies.of_mlflow(server.database, "r0") == copies.of_ledger(tmp_path)
        ((run, _),) = live(server, "r0")
    samples = (server.directory / "files").glob(f"*/{run}/artifacts/samples/sample/*.txt")
    assert sorted(path.read_text() for path in samples) == sorted(f"sample {step}" for step in range(10, 201, 10))
    assert len(copies.query(server.database, "SELECT key FROM params WHERE run_uuid = ?", run)) > 50


def test_a_real_server_dies_and_comes_back_and_a_replay_makes_the_copy_whole(tmp_path, server):
    server.start()
    process = start(tmp_path, to_server(server.uri), num_steps=900)
    while not live(server):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1)
    server.kill()
    time.sleep(10)
    server.start()
    found, err = finish(process)
    assert_nothing_was_lost(tmp_path, 900)
    assert [row["sink"] for row in degraded(tmp_path)] == ["mlflow"], err
    assert_none_waited(found)
    broken = copies.of_mlflow(server.database, "r1")
    assert len(broken) < len(copies.of_ledger(tmp_path))
    for _ in range(2):
        done = metrics("replay", tmp_path, "--to", "mlflow")
        assert done.returncode == 0, done.stderr
        assert copies.of_mlflow(server.database, "r1") == copies.of_ledger(tmp_path)
        assert len(live(server)) == 1


@pytest.mark.parametrize("trouble", ["hanging", "failing"])
def test_a_real_server_that_is_in_trouble_for_the_rest_of_a_run_costs_one_event(tmp_path, server, trouble):
    server.start()
    process = start(tmp_path, to_server(server.uri), num_steps=900, run_id=trouble)
    while not copies.of_mlflow(server.database, trouble):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    with getattr(server, trouble)():
        found, err = finish(process)
    assert_nothing_was_lost(tmp_path, 900)
    (row,) = degraded(tmp_path)
    assert row["sink"] == "mlflow" and "API request to http" in row["reason"], err  # not given up at the end
    assert row["step"] < 900 and err.count("mlflow is dropped") == 1
    assert_none_waited(found)
    assert metrics("replay", tmp_path, "--to", "mlflow").returncode == 0
    assert copies.of_mlflow(server.database, trouble) == copies.of_ledger(tmp_path)
    assert len(live(server, trouble)) == 1


def test_a_run_that_goes_on_is_one_curve_of_the_server(tmp_path, server):
    server.start()
    program = RESUME.format(uri=server.uri)
    for resume_step, last, shift in ((0, 9, 0.0), (5, 8, 0.5), (8, 12, 0.5)):
        arguments = [str(tmp_path), str(resume_step), str(last), str(shift)]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            env=mlflow_servers.clean_environment(),
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert degraded(tmp_path) == []
        assert copies.of_mlflow(server.database, "r2") == copies.of_ledger(tmp_path)
        ((run, status),) = live(server, "r2")
        assert status == "FINISHED"
        files = {path.name for path in (server.directory / "files").glob(f"*/{run}/artifacts/*")}
        assert files == {"config.json", "samples"}
    assert [step for step, name in copies.of_mlflow(server.database, "r2") if name == "train/loss"] != []


RESUME = """
import sys
from pathlib import Path
import small_writer
workdir, resume_step, last, shift = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
changes = {{"mlflow.enabled": True, "mlflow.uri": "{uri}"}}
with small_writer.switched_on(workdir, changes, run_id="r2", resume_step=resume_step) as writer:
    (workdir / "config.json").write_text("{{}}")
    writer.artifact(resume_step, "config.json", workdir / "config.json")
    for step in range(resume_step + 1, last + 1):
        writer.scalars(step, "train", {{"loss": 8 / step + shift}})
        writer.text(step, "sample", f"sample {{step}}")
"""


def test_killing_the_process_of_wandb_costs_one_event_and_a_replay_mends_it(tmp_path):
    found, err = finish(start(tmp_path, {"wandb.enabled": True}, num_steps=600, kill_at=400))
    assert "killed" in err, "wandb-core was not running yet"
    assert_nothing_was_lost(tmp_path, 600)
    assert [row["sink"] for row in degraded(tmp_path)] == ["wandb"]
    assert err.count("wandb is dropped") == 1
    assert_none_waited(found)
    for _ in range(2):
        done = metrics("replay", tmp_path, "--to", "wandb")
        assert done.returncode == 0, done.stderr
        assert copies.of_wandb(tmp_path) == copies.of_ledger(tmp_path)


def test_no_key_of_wandb_is_in_a_file(tmp_path):
    key = "0123456789abcdef" * 2 + "01234567"
    # What its own variable says of the mode must not send a run that is offline.
    finish(start(tmp_path, {"wandb.enabled": True}, 20, env={"WANDB_API_KEY": key, "WANDB_MODE": "online"}))
    assert list(tmp_path.glob("wandb/offline-run-*"))
    assert degraded(tmp_path) == []
    found = [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert found == []
    assert len(copies.of_wandb(tmp_path)) == 40
