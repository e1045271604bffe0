"""One run in two real processes: it equals the run of one, stops as one, and no end of one leaves the other hanging."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import small_run
from small_pair import Pair

from codex_jax.checkpoint import manifest


pytestmark = pytest.mark.infra

NO_DROPOUT = {"model.dropout": 0.0}
# One process of two devices is to two processes of one what a program is to itself.
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.fixture(scope="module")
def alone(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run of one process with two devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, {}), {**main_env, **TWO_DEVICES})
    return workdir


def losses(workdir: Path) -> dict[tuple[str, int], float]:
    """Return every loss by split and step; each step is in the ledger once."""
    rows = [row for row in small_run.metric_rows(workdir) if "loss" in row["metrics"]]
    found = {(row["split"], row["step"]): row["metrics"]["loss"] for row in rows}
    assert len(found) == len(rows)
    return found


def last_event(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "events.ndjson").read_text().splitlines()[-1])  # type: ignore[no-any-return]


def checkpoints(workdir: Path) -> list[int]:
    """Return the steps of the checkpoints, each of which is whole."""
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    for step in steps:
        manifest.verify(workdir / "checkpoints" / str(step))
    return steps


def assert_same_run(workdir: Path, other: Path, *, rel: float) -> None:
    """Same documents in the same order, and the same losses as far as another order of adding allows."""
    assert small_run.replayed_events(workdir)[-1]["event"] == small_run.replayed_events(other)[-1]["event"]
    reports = [
        [event for event in small_run.replayed_events(one) if event["event"] == "data.report"]
        for one in (workdir, other)
    ]
    assert reports[0] == reports[1]
    assert losses(workdir) == pytest.approx(losses(other), rel=rel)
    newest = checkpoints(workdir)[-1]
    positions = [(one / f"checkpoints/{newest}/data/iterator.json").read_bytes() for one in (workdir, other)]
    assert positions[0] == positions[1]


def test_two_processes_are_the_run_of_one_written_once(
    corpus: Path, alone: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    first, second = Pair(corpus, tmp_path / "run", main_env).finish()
    assert_same_run(tmp_path / "run", alone, rel=1e-3)
    assert checkpoints(tmp_path / "run") == [12, 16]
    assert "step 8 validation" in first and "report" in first
    ours = [line for line in second.splitlines() if not line.startswith("[Gloo]")]
    assert ours == [line for line in ours if line.startswith("process 1 of 2")] and len(ours) == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(path.name for path in alone.iterdir())


def test_signal_to_one_process_stops_both_after_the_same_step(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    pair = Pair(corpus, workdir, main_env, {"train.num_steps": 100_000})  # which do not end before the signal is heard
    pair.wait_for("step 5/")
    pair.processes[1].send_signal(signal.SIGTERM)
    ended = pair.end()
    assert [process.code for process in ended] == [75, 75], ended
    saved = checkpoints(workdir)[-1]
    assert 5 <= saved < 100_000
    for process in ended:
        assert f"SIGTERM to process 1 received after step {saved}, which is saved" in process.output
        assert "Traceback" not in process.output
    event = last_event(workdir)
    assert (event["event"], event["status"], event["step"]) == ("run.finished", "interrupted", saved)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("index", [0, 1])
def test_run_stopped_by_a_signal_and_resumed_equals_the_straight_one(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, number: signal.Signals, index: int
) -> None:
    Pair(corpus, tmp_path / "straight", main_env).finish()
    pair = Pair(corpus, tmp_path / "run", main_env)
    pair.wait_for("step 5/")
    pair.processes[index].send_signal(number)
    assert [process.code for process in pair.end()] == [75, 75]
    Pair(corpus, tmp_path / "run", main_env).finish()
    assert small_run.metric_rows(tmp_path / "run") == small_run.metric_rows(tmp_path / "straight")
    assert small_run.state_digest(tmp_path / "run", 16) == small_run.state_digest(tmp_path / "straight", 16)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stream", "store"])
@pytest.mark.parametrize("counts", [(2, 1), (1, 2)], ids=["two to one", "one to two"])
def test_number_of_processes_changes_on_the_way(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, counts: tuple[int, int], mode: str
) -> None:
    changes = {**NO_DROPOUT, "data.mode": mode}

    def run(count: int, workdir: Path, *, stop: bool = False) -> None:
        if count == 2:
            pair = Pair(corpus, workdir, main_env, changes)
            if stop:
                pair.wait_for("step 5/")
                pair.processes[0].send_signal(signal.SIGTERM)
            assert {process.code for process in pair.end()} == {75 if stop else 0}
            return
        process = small_run.start(small_run.arguments(corpus, workdir, changes), main_env)
        if stop:
            small_run.wait_for(process, "step 5/")
            process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == (75 if stop else 0), output

    run(1, tmp_path / "straight")
    run(counts[0], tmp_path / "run", stop=True)
    run(counts[1], tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "straight", rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("after", ["step 6/", "step 8 validation"])
def test_other_process_ends_when_one_is_killed(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, index: int, after: str
) -> None:
    workdir = tmp_path / "run"
    pair = Pair(corpus, workdir, main_env)
    pair.wait_for(after)
    pair.processes[index].kill()
    ended = pair.end(timeout=60)
    assert ended[1 - index].code == 4, ended
    assert f"codex_jax: process {index}: it ended without a word" in ended[1 - index].output
    assert "Traceback" not in ended[1 - index].output and "absl::Status" not in ended[1 - index].output, ended
    if index == 1:
        event = last_event(workdir)
        assert event["event"] == "run.finished" and event["reason"].startswith("process 1: it ended without a word")
    Pair(corpus, workdir, main_env).finish()
    losses(workdir)
    assert checkpoints(workdir) == [12, 16]


def refused(pair: Pair, code: int) -> list[str]:
    """Return what both said who had to end so."""
    ended = pair.end(timeout=120)
    assert [process.code for process in ended] == [code, code], ended
    for process in ended:
        assert "Traceback" not in process.output and process.output.count("codex_jax: ") == 1, ended
    return [process.output for process in ended]


@pytest.mark.slow
def test_other_settings_of_one_process_are_named_by_both(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    said = refused(Pair(corpus, tmp_path / "run", main_env, of_second={"optimizer.learning_rate": 0.01}), 2)
    for output in said:
        assert "process 1: optimizer.learning_rate is 0.01, of process 0 0.003" in output
        assert "process_index" not in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_other_data_of_one_process_are_named_by_both(corpus: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    places = []
    for number in range(2):
        places.append(tmp_path / f"host{number}")
        shutil.copytree(corpus, places[-1] / "texts")
    (places[1] / "texts" / "part03.txt").write_text("something else\n" * 400)
    env = {**main_env, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for output in refused(Pair(Path("texts"), tmp_path / "run", env, directories=places), 3):
        assert "the processes of this run read different data" in output and "process 1: data.corpus is" in output


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_missing_data_of_one_process_end_both(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, index: int
) -> None:
    places = [tmp_path / "host0", tmp_path / "host1"]
    places[index].mkdir()
    shutil.copytree(corpus, places[1 - index] / "texts")
    env = {**main_env, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    said = refused(Pair(Path("texts"), tmp_path / "run", env, directories=places), 3)
    assert f"codex_jax: process {index}: " in said[1 - index] and all("texts" in output for output in said)


@pytest.mark.slow
def test_workdir_of_another_run_ends_both(corpus: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    process = small_run.start(small_run.arguments(corpus, tmp_path / "run", {"train.num_steps": 100_000}), main_env)
    small_run.wait_for(process, "step 2/")
    try:
        said = refused(Pair(corpus, tmp_path / "run", main_env), 2)
    finally:
        process.kill()
        process.communicate()
    assert all(f"process {process.pid} is training in" in output for output in said)


@pytest.mark.slow
def test_damaged_checkpoint_ends_both_and_changed_settings_do(
    corpus: Path, alone: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(alone, tmp_path / "run")
    said = refused(Pair(corpus, tmp_path / "run", main_env, {"run.seed": 5}), 2)
    assert all("run.seed" in output for output in said)
    for step in (12, 16):
        (tmp_path / "run" / "checkpoints" / str(step) / "meta.json").write_text("{}")
    said = refused(Pair(corpus, tmp_path / "run", main_env), 3)
    assert all("no checkpoint in" in output for output in said)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True], ids=["good", "refused"])
def test_store_is_built_by_the_first_while_the_other_waits(
    main_env: dict[str, str], tmp_path: Path, broken: bool
) -> None:
    rows = tmp_path / "rows.jsonl"
    small_run.write_rows(rows, broken=300 if broken else 0, whole=900)
    pair = Pair(rows, tmp_path / "run", main_env, {"data.mode": "store", "data.store": tmp_path / "store"})
    if broken:
        assert all("of 1200 documents" in output or "could not be read" in output for output in refused(pair, 4))
        return
    first, second = pair.finish()
    assert first.count("shards, into") == 1 and "store" not in second
    assert [checkpoints(tmp_path / "run"), losses(tmp_path / "run") != {}] == [[12, 16], True]
