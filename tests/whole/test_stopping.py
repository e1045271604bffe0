"""A signal in any phase of a run, a worker that hangs, a process that is stopped: each run ends, and can go on."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import held_model
import psutil
import pytest
import small_run
from small_pair import Pair

from codex_jax.checkpoint import figures


pytestmark = pytest.mark.infra

# Windows of a few steps each, so that a run waits for its data in the middle; more parts in an evaluation.
CHANGES: dict[str, Any] = {
    "safety.classifier": "held:hold",
    "data.window_bytes": 1024,
    "data.prefetch_batches": 1,
    "eval.num_batches": 64,
}


@pytest.fixture(scope="session")
def env(main_env: dict[str, str]) -> dict[str, str]:
    """The environment of a run that finds the classifier."""
    here, root = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
    return {**main_env, "PYTHONPATH": f"{root}{os.pathsep}{here}"}


@pytest.fixture(scope="module")
def straight(corpus: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, CHANGES), env)
    return workdir


def hold(directory: Path, stage: str) -> Path:
    """Hold the run that works in the directory; the file that is returned says so by its neighbour."""
    (directory / "hold").mkdir(exist_ok=True)
    file = directory / "hold" / stage
    file.touch()
    return file


def is_held(file: Path) -> Callable[[], bool]:
    return file.with_suffix(".held").exists


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output, output
    return process.returncode, output


def newest(workdir: Path) -> int:
    return max((int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdigit()), default=0)


def meta_of(workdir: Path, step: int) -> dict[str, Any]:
    return json.loads((workdir / "checkpoints" / str(step) / "meta.json").read_bytes())["meta"]  # type: ignore[no-any-return]


def assert_goes_on(args: list[str], env: Mapping[str, str], workdir: Path, straight: Path) -> None:
    """The run that goes on equals the one that was never stopped."""
    small_run.finish(args, env)
    assert small_run.metric_rows(workdir) == small_run.metric_rows(straight)
    assert small_run.replayed_events(workdir) == small_run.replayed_events(straight)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(straight, 16)


def test_signal_while_the_run_waits_for_data_saves_the_step_before(
    corpus: Path, straight: Path, env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    args = small_run.arguments(corpus, workdir, CHANGES)
    process = small_run.start(args, env, tmp_path)
    small_run.wait_for(process, "step 2/")
    file = hold(tmp_path, "train")
    small_run.wait_until(is_held(file), process)
    time.sleep(0.5)  # what is ready is used up
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    saved = newest(workdir)
    assert code == 75 and f"SIGTERM received after step {saved}, which is saved" in output
    assert 2 <= saved < 16 and not meta_of(workdir, saved)["owes_evaluation"]
    file.unlink()
    assert_goes_on(args, env, workdir, straight)


def test_signal_in_an_evaluation_leaves_it_to_the_run_that_goes_on(
    corpus: Path, straight: Path, env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    args = small_run.arguments(corpus, workdir, CHANGES)
    process = small_run.start(args, env)
    small_run.wait_for(process, "step 8/")
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 75 and "after step 8, which is saved, and evaluated when the run goes on" in output
    assert meta_of(workdir, 8)["owes_evaluation"]
    again = small_run.start(
        args, env
    )  # killed when the evaluation is written: it is owed still, and in the ledger once
    small_run.wait_for(again, "step 9/")
    again.kill()
    again.communicate()
    (row,) = [row for row in small_run.metric_rows(straight) if (row["step"], row["split"]) == (8, "validation")]
    assert figures.glance(workdir / "checkpoints" / "8")["evaluation"] == row["metrics"]
    assert_goes_on(args, env, workdir, straight)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "numbers"),
    [
        ("tokenizer", [signal.SIGTERM]),
        ("model", [signal.SIGINT]),
        ("step 9/", [signal.SIGTERM]),
        ("step 4/", [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]),
        ("step 16/", [signal.SIGTERM]),
    ],
    ids=["start", "compile", "step", "save, three times", "last evaluation"],
)
def test_signal_anywhere_else_ends_in_time_and_goes_on_equal(
    corpus: Path, straight: Path, env: dict[str, str], tmp_path: Path, after: str, numbers: list[signal.Signals]
) -> None:
    args = small_run.arguments(corpus, tmp_path / "run", CHANGES)
    process = small_run.start(args, env)
    small_run.wait_for(process, after)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.02)
    code, output = ended(process)
    assert code == 75 and f"codex_jax: {numbers[0].name}: finishing what is under way" in output, output
    assert "ended at once" not in output  # by a later signal
    assert_goes_on(args, env, tmp_path / "run", straight)


def test_second_signal_ends_a_start_that_hangs(corpus: Path, env: dict[str, str], tmp_path: Path) -> None:
    file = hold(tmp_path, "eval")
    process = small_run.start(small_run.arguments(corpus, tmp_path / "run", CHANGES), env, tmp_path)
    small_run.wait_until(is_held(file), process)
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    small_run.wait_for(process, "codex_jax: SIGTERM: finishing what is under way and saving; once more ends it")
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 75 and "SIGINT again: ended at once, there was nothing to save" in output
    assert newest(tmp_path / "run") == 0


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGSTOP, "no batch came within data.max_wait_secs=20"), (signal.SIGKILL, "process of data.workers=2 was")],
    ids=["hangs", "killed"],
)
def test_worker_that_is_gone_or_hangs_ends_the_run_and_no_process_is_left(
    corpus: Path, env: dict[str, str], tmp_path: Path, number: signal.Signals, says: str
) -> None:
    # More steps than the windows last that are made already.
    changes = {**CHANGES, "data.workers": 2, "data.max_wait_secs": 20, "train.num_steps": 60, "eval.every_steps": 60}
    args = small_run.arguments(corpus, tmp_path / "run", changes)
    process = small_run.start(args, env)
    small_run.wait_for(process, "step 2/")
    workers = workers_of(process)
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(number)
    code, output = ended(process)
    assert code == 4 and says in output, output
    if number == signal.SIGSTOP:
        assert f"process {workers[0].pid} is stopped" in output
    psutil.wait_procs(workers, timeout=30)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    small_run.finish(args, env)


@pytest.mark.slow
def test_step_that_hangs_ends_the_run_and_says_so_in_the_ledger(
    corpus: Path, env: dict[str, str], tmp_path: Path
) -> None:
    args = small_run.arguments(corpus, tmp_path / "run", {**CHANGES, "train.max_step_secs": 1})
    hold(tmp_path, "output")
    process = small_run.start([*args, "--debug"], env, tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 4, output
    assert "the evaluation of step 8 has not ended within 10 s (ten times train.max_step_secs), since " in output
    assert "held.py" in output  # of all threads, what they wait for
    event = json.loads((tmp_path / "run" / "events.ndjson").read_text().splitlines()[-1])
    assert (event["event"], event["status"]) == ("run.finished", "stopped") and "step 8" in event["reason"]


def of_family(name: str, tmp_path: Path, env: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings that choose a family of held_model.py, and the environment in which it is found."""
    held_model.install(tmp_path)
    sizes = {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 64, "vocab_size": 320}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name, **sizes}))
    path = f"{env['PYTHONPATH']}{os.pathsep}{tmp_path}"
    return {**CHANGES, "model.architecture": tmp_path / "config.json"}, {**env, "PYTHONPATH": path}


@pytest.mark.slow
def test_step_that_an_evaluation_waits_for_is_watched_as_a_step(
    corpus: Path, env: dict[str, str], tmp_path: Path
) -> None:
    changes, env = of_family("endless", tmp_path, env)
    args = small_run.arguments(corpus, tmp_path / "run", {**changes, "eval.every_steps": 1, "train.max_step_secs": 5})
    code, output = ended(small_run.start(args, env))
    assert code == 4 and "codex_jax: step 1 has not ended within 5 s (train.max_step_secs), since " in output, output


@pytest.mark.slow
def test_step_that_hangs_inside_a_device_ends_the_run_and_says_so_in_the_ledger(
    corpus: Path, env: dict[str, str], tmp_path: Path
) -> None:
    changes, env = of_family("held", tmp_path, env)
    never = {"train.num_steps": 4000, "eval.every_steps": 4000, "train.max_step_secs": 5}
    args = small_run.arguments(corpus, tmp_path / "run", {**changes, **never})
    process = small_run.start(args, env, tmp_path)
    small_run.wait_for(process, "step 5/")
    file = hold(tmp_path, "device")
    code, output = ended(process)
    assert code == 4 and is_held(file)(), output
    (said,) = [line for line in output.splitlines() if line.startswith("codex_jax: ")]
    assert re.match(r"codex_jax: step \d+ has not ended within 5 s \(train.max_step_secs\), since ", said), output
    event = json.loads((tmp_path / "run" / "events.ndjson").read_text().splitlines()[-1])
    assert (event["event"], event["status"]) == ("run.finished", "stopped")
    assert event["reason"] == said.removeprefix("codex_jax: ")
    saved = newest(tmp_path / "run")
    assert saved >= 4
    file.unlink()
    process = small_run.start(args, env, tmp_path)
    small_run.wait_for(process, f"step {saved + 1}/")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 75


def pair_of(corpus: Path, env: dict[str, str], tmp_path: Path, changes: Mapping[str, Any]) -> Pair:
    """Two processes, each in a directory of its own."""
    places = [tmp_path / "host0", tmp_path / "host1"]
    for place in places:
        place.mkdir(exist_ok=True)
    return Pair(corpus, tmp_path / "run", env, {**CHANGES, **changes}, directories=places)


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1], ids=["to the other", "to the one that waits"])
def test_signal_while_one_of_two_waits_for_data_stops_both_after_the_same_step(
    corpus: Path, env: dict[str, str], tmp_path: Path, signalled: int
) -> None:
    pair = pair_of(corpus, env, tmp_path, {})
    pair.wait_for("step 2/")
    file = hold(tmp_path / "host1", "train")
    small_run.wait_until(is_held(file), pair.processes[1])
    time.sleep(1)  # both have come to the step that cannot begin
    pair.processes[signalled].send_signal(signal.SIGTERM)
    both = pair.end(timeout=60)
    saved = newest(tmp_path / "run")
    assert [process.code for process in both] == [75, 75], both
    for process in both:
        assert f"SIGTERM to process {signalled} received after step {saved}, which is saved" in process.output
    file.unlink()
    pair_of(corpus, env, tmp_path, {}).finish()
    steps = [row["step"] for row in small_run.metric_rows(tmp_path / "run") if row["split"] == "train"]
    assert steps == list(range(1, 17))


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_stopped_process_is_named_by_the_other(corpus: Path, env: dict[str, str], tmp_path: Path, index: int) -> None:
    pair = pair_of(corpus, env, tmp_path, {"parallel.wait_secs": 20, "train.num_steps": 4000})
    pair.wait_for("step 5/")
    pair.processes[index].send_signal(signal.SIGSTOP)
    other = pair.processes[1 - index]
    try:
        assert other.wait(timeout=100) == 4, pair.lines
    finally:
        pair.kill()
    said = pair.end()[1 - index].output
    assert f"process {index}: it has said nothing for parallel.wait_secs=20" in said, said
