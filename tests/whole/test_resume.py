"""Stop a run anywhere: the run that goes on ends with the same bytes as the one that was never stopped."""

import csv
import json
import random
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import observers
import pytest
import small_run

from codex_jax import config
from codex_jax.cli import app
from codex_jax.data import pipeline


pytestmark = pytest.mark.infra

IN_A_STORE = {"data.mode": "store"}


@pytest.fixture(scope="module")
def main_env(main_env: dict[str, str]) -> dict[str, str]:
    """The environment of a user, whose programs are optimized."""
    return {name: value for name, value in main_env.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}


@pytest.fixture(scope="module")
def straight(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, {}), main_env)
    return workdir


def assert_same_run(workdir: Path, straight: Path) -> None:
    assert small_run.metric_rows(workdir) == small_run.metric_rows(straight)
    assert small_run.replayed_events(workdir) == small_run.replayed_events(straight)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(straight, 16)


def kill_and_finish(args: list[str], env: Mapping[str, str], *, after: str, wait: float) -> None:
    """Kill the run `wait` seconds after it printed a line that begins with `after`, then run it to its end."""
    process = small_run.start(args, env)
    small_run.wait_for(process, after)
    time.sleep(wait)
    process.kill()
    process.communicate()
    small_run.finish(args, env)


@pytest.mark.parametrize(
    ("after", "wait"),
    [
        pytest.param("model", 0.0, id="compile", marks=pytest.mark.slow),
        pytest.param("step 3/", 0.0, id="before the first save", marks=pytest.mark.slow),
        pytest.param("step 4/", 0.02, id="first save"),
        pytest.param("step 8 validation", 0.05, id="evaluation", marks=pytest.mark.slow),
        pytest.param("step 13/", 0.0, id="late"),
    ],
)
def test_run_killed_and_resumed_equals_the_straight_one(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, after: str, wait: float
) -> None:
    kill_and_finish(small_run.arguments(corpus, tmp_path, {}), main_env, after=after, wait=wait)
    assert_same_run(tmp_path, straight)


@pytest.fixture(scope="module")
def straight_store(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run in store mode that was never stopped."""
    workdir = tmp_path_factory.mktemp("straight_store") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, IN_A_STORE), main_env)
    return workdir


@pytest.mark.parametrize(
    ("after", "wait"),
    [pytest.param("store", 0.0, id="build", marks=pytest.mark.slow), pytest.param("step 7/", 0.0, id="late")],
)
def test_run_of_a_store_killed_and_resumed_equals_the_straight_one(
    corpus: Path, straight_store: Path, main_env: dict[str, str], tmp_path: Path, after: str, wait: float
) -> None:
    args = small_run.arguments(corpus, tmp_path / "run", {**IN_A_STORE, "data.store": tmp_path / "store"})
    kill_and_finish(args, main_env, after=after, wait=wait)
    assert_same_run(tmp_path / "run", straight_store)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stream", "store"])
def test_mixture_killed_twice_equals_the_straight_run_whatever_the_workers(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, mode: str
) -> None:
    """The standard library, text and instructions, each with a weight; the store is built and killed as well."""
    rows = tmp_path / "rows.jsonl"
    pairs = ({"question": f"what is {number} plus 1?", "answer": f"it is {number + 1}"} for number in range(2000))
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    mixture = {
        "data.paths": "",
        "data.mode": mode,
        "data.mix.code.source": "stdlib",
        "data.mix.code.weight": 0.5,
        "data.mix.prose.paths": corpus,
        "data.mix.prose.weight": 0.3,
        "data.mix.sums.paths": rows,
        "data.mix.sums.prompt_field": "question",
        "data.mix.sums.completion_field": "answer",
        "data.mix.sums.weight": 0.2,
        "data.document_bytes": 16384,
        "data.window_bytes": 262144,
    }
    small_run.finish(small_run.arguments(corpus, tmp_path / "straight", mixture), main_env)
    for before, between, after in ((0, 4, 1), (4, 1, 0)):
        workdir = tmp_path / f"{before} workers"
        for workers, step in ((before, 5), (between, 11)):
            args = small_run.arguments(corpus, workdir, {**mixture, "data.workers": workers})
            process = small_run.start(args, main_env)
            small_run.wait_for(process, f"step {step}/")
            process.kill()
            process.communicate()
        small_run.finish(small_run.arguments(corpus, workdir, {**mixture, "data.workers": after}), main_env)
        assert_same_run(workdir, tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_run_killed_at_a_random_moment_equals_the_straight_one(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, number: int
) -> None:
    args = small_run.arguments(corpus, tmp_path, {})
    draw = random.Random(number)
    for _ in range(2):
        process = small_run.start(args, main_env)
        time.sleep(draw.uniform(0.5, 12.0))
        process.kill()
        process.communicate()
    small_run.finish(args, main_env)
    assert_same_run(tmp_path, straight)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_signal_saves_at_the_step_and_exits_75(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    args = small_run.arguments(corpus, tmp_path, {})
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 5/")
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert f"{number.name} received after step" in output and "Traceback" not in output
    saved = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert 5 <= saved < 16
    last = json.loads((tmp_path / "events.ndjson").read_text().splitlines()[-1])
    assert (last["event"], last["status"], last["step"]) == ("run.finished", "interrupted", saved)
    assert number.name in last["reason"] and "interrupted" in (tmp_path / "report.html").read_text()
    small_run.finish(args, main_env)
    assert_same_run(tmp_path, straight)


def test_flipped_bit_is_named_and_the_checkpoint_before_it_is_used(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    newest = workdir / "checkpoints" / "16"
    largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    output = small_run.finish(small_run.arguments(corpus, workdir, {}), main_env)
    assert f"checkpoint 16 is not used: {largest.relative_to(newest)}: SHA-256 differs" in output
    assert "from step 12" in output and "it is now 16.damaged" in output
    assert_same_run(workdir, straight)


def test_finished_run_is_not_trained_again(
    straight: Path, corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)  # which notes that it was started again
    output = small_run.finish(small_run.arguments(corpus, workdir, {}), main_env)
    assert "finished   at step 16 already" in output
    assert "best validation loss" in output and "step     1/16" not in output
    assert small_run.metric_rows(workdir) == small_run.metric_rows(straight)


def test_lost_last_events_are_refused_and_told_and_moving_the_file_away_goes_on(
    straight: Path, corpus: Path, run_main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    events, args = workdir / "events.ndjson", small_run.arguments(corpus, workdir, {})
    assert app.main(["safety", "audit", str(workdir)]) == app.main(["safety", "audit", str(events)]) == 0
    lines = events.read_bytes().splitlines(keepends=True)
    meta = json.loads((workdir / "checkpoints" / "16" / "meta.json").read_bytes())["meta"]["events"]
    assert json.loads(lines[meta["number"] - 1])["chain"] == meta["chain"]
    events.write_bytes(b"".join(lines[: meta["number"] - 1]))
    refused = run_main(args)
    assert refused.returncode == 3
    for part in ("has lost events", "checkpoint 16", f"event {meta['number']}", meta["chain"], "move the file away"):
        assert part in refused.stderr
    assert events.read_bytes() == b"".join(lines[: meta["number"] - 1])
    capsys.readouterr()
    assert app.main(["safety", "audit", str(workdir)]) == 3
    assert "checkpoint 16 was saved after event" in capsys.readouterr().err
    events.unlink()
    for _ in range(2):
        assert run_main(args).returncode == 0
    assert app.main(["safety", "audit", str(workdir)]) == 3
    assert "begins with a resume from step 16: the events before were moved away" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer.learning_rate": 0.01},
        pytest.param({"run.seed": 5}, marks=pytest.mark.slow),
        pytest.param({"data.sequence_length": 16}, marks=pytest.mark.slow),
    ],
)
def test_changed_setting_is_refused_by_name(
    corpus: Path, straight: Path, run_main: Any, change: dict[str, Any]
) -> None:
    before = small_run.metric_rows(straight)
    result = run_main(small_run.arguments(corpus, straight, change))
    assert result.returncode == 2
    assert next(iter(change)) in result.stderr and "--workdir" in result.stderr
    assert small_run.metric_rows(straight) == before


def train_tokenizer(corpus: Path, directory: Path) -> None:
    """Save a tokenizer of 320 tokens that a corpus was split by."""
    settings = config.default()
    settings.tokenizer.vocab_size, settings.data.paths = 320, (str(corpus),)
    resolved = config.resolve(settings.to_dict())
    pipeline.make_tokenizer(resolved, observers.opened(resolved)).save(directory)


def test_copied_corpus_and_saved_tokenizer_go_on_and_other_data_are_refused(
    corpus: Path, straight: Path, main_env: dict[str, str], run_main: Any, tmp_path: Path
) -> None:
    workdir, copy, other = tmp_path / "run", tmp_path / "copy", small_run.write_corpus(tmp_path / "other", seed=9)
    shutil.copytree(straight, workdir)
    shutil.rmtree(workdir / "checkpoints" / "16")
    shutil.copytree(corpus, copy)
    refused = run_main(small_run.arguments(other, workdir, {"tokenizer.path": workdir / "tokenizer"}))
    assert refused.returncode == 3
    assert "position is one in other data" in refused.stderr and "corpus: " in refused.stderr
    assert "tokenizer: " not in refused.stderr
    train_tokenizer(other, tmp_path / "tokenizer")
    refused = run_main(small_run.arguments(corpus, workdir, {"tokenizer.path": tmp_path / "tokenizer"}))
    assert refused.returncode == 3
    assert "tokenizer: " in refused.stderr and "corpus: " not in refused.stderr
    assert (workdir / "config.json").read_bytes() == (straight / "config.json").read_bytes()
    moved = {"tokenizer.path": workdir / "tokenizer", "data.source": "TEXT", "data.encode_chunk_size": 7}
    said = small_run.finish(small_run.arguments(copy, workdir, moved), main_env)
    assert "from step 12" in said
    rows = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()]
    started, *_, resumed = (row["tokenizer"] for row in rows if row["event"] in ("run.started", "run.resumed"))
    assert (started["kind"], started["rule"]) == ("hf", "trained on these data")
    assert resumed == {**started, "rule": "tokenizer.path", "path": str(workdir / "tokenizer")}
    assert f"tokenizer  hf, 320 tokens, sha256 {started['digest'][:12]}, tokenizer.path: {workdir}" in said
    assert small_run.metric_rows(workdir) == small_run.metric_rows(straight)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(straight, 16)


def test_second_trainer_on_a_workdir_is_refused(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, run_main: Any
) -> None:
    args = small_run.arguments(corpus, tmp_path, {"train.num_steps": 100000})
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 2/")
    try:
        second = run_main(args)
    finally:
        process.kill()
        process.communicate()
    assert second.returncode == 2
    assert f"process {process.pid} is training in {tmp_path}" in second.stderr


@pytest.mark.slow
def test_run_resumed_from_each_of_40_steps_equals_the_straight_one(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    """What a stop after step n leaves: the checkpoints up to n, and a ledger that may be ahead of them."""
    often = {"train.num_steps": 40, "checkpoint.every_steps": 1, "checkpoint.keep_last": 40, "eval.every_steps": 8}
    whole = tmp_path / "straight"
    small_run.finish(small_run.arguments(corpus, whole, often), main_env)
    for stopped in range(1, 40):
        workdir = tmp_path / "stopped"
        shutil.copytree(whole, workdir)
        for step in range(stopped + 1, 41):
            shutil.rmtree(workdir / "checkpoints" / str(step))
        small_run.finish(small_run.arguments(corpus, workdir, often), main_env)
        assert small_run.metric_rows(workdir) == small_run.metric_rows(whole)
        assert small_run.replayed_events(workdir) == small_run.replayed_events(whole)
        assert small_run.state_digest(workdir, 40) == small_run.state_digest(whole, 40)
        shutil.rmtree(workdir)


@pytest.mark.slow
def test_lines_that_a_kill_tore_are_whole_and_there_once_when_the_run_has_gone_on(
    corpus: Path, straight: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    args = small_run.arguments(corpus, tmp_path, {"tracking.csv.enabled": True})
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 11/")
    process.kill()
    process.communicate()
    for name in ("metrics.ndjson", "events.ndjson", "metrics.csv"):
        content = (tmp_path / name).read_bytes().rstrip(b"\n")
        (tmp_path / name).write_bytes(content[: -len(content.rpartition(b"\n")[2]) // 2])
    small_run.finish(args, main_env)
    assert_same_run(tmp_path, straight)
    with open(tmp_path / "metrics.csv", newline="") as file:
        written = [(int(row["step"]), row["split"], row["name"], float(row["value"])) for row in csv.DictReader(file)]
    table = [entry for entry in written if entry[1] != "system"]  # the machine's, of which a step may have several
    rows = [json.loads(line) for line in (tmp_path / "metrics.ndjson").read_text().splitlines()]
    assert table == [(row["step"], row["split"], name, value) for row in rows for name, value in row["metrics"].items()]
    assert len({entry[:3] for entry in table}) == len(table)
