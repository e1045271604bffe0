"""Whole runs on disks that are too small or hang, and over a checkpoint that holds NaN."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import disk_faults
import jax.numpy as jnp
import pytest
import small_run

from codex_jax.checkpoint import arrays, document, manifest
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra


def spoil(workdir: Path, step: int) -> str:
    """Put NaN into one leaf of a checkpoint, as an older version could, and return the leaf's name."""
    directory = workdir / "checkpoints" / str(step)
    tree = {name: jnp.asarray(array) for name, array in small_run.arrays(workdir, step).items()}
    name = next(name for name in sorted(tree) if name.startswith("parameters/") and name.endswith("/kernel"))
    tree[name] = tree[name].at[0].set(jnp.nan)
    shutil.rmtree(directory / "state")
    (directory / manifest.NAME).unlink()
    meta = json.loads((directory / document.META).read_bytes())
    (directory / document.META).write_text(json.dumps({key: meta[key] for key in meta if key != "finite"}))
    writer = arrays.Writer(60)
    writer.start(directory / "state", tree)
    writer.wait()
    writer.close()
    manifest.write(directory)
    return name


def test_run_goes_on_from_before_a_checkpoint_that_holds_nan(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    straight, workdir = tmp_path / "straight", tmp_path / "run"
    small_run.finish(small_run.arguments(corpus, straight, {}), main_env)
    shutil.copytree(straight, workdir)
    name = spoil(workdir, 16)
    said = small_run.finish(small_run.arguments(corpus, workdir, {}), main_env)
    assert f"checkpoint 16 is not used: {name}: not finite (NaN or infinite values)" in said
    assert "from step 12" in said and "it is now 16.damaged" in said
    assert small_run.metric_rows(workdir) == small_run.metric_rows(straight)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(straight, 16)


@pytest.mark.slow
@pytest.mark.skipif(bool(disk_faults.cannot_compile()), reason=disk_faults.cannot_compile())
def test_signal_while_a_save_hangs_ends_the_run_and_the_next_run_goes_on(
    corpus: Path, main_env: dict[str, str], tmp_path: Path, preload: Path
) -> None:
    workdir = tmp_path / "run"
    args = small_run.arguments(corpus, workdir, {"checkpoint.max_secs": 6})
    fault = {"LD_PRELOAD": str(preload), "DISK_ROOT": str(workdir), "DISK_HANG_ON": "fsync:/checkpoints"}
    process = small_run.start(args, {**main_env, **fault})
    small_run.wait_for(process, "step 6/")  # the save of step 4 hangs, and training goes on
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output
    said = f"saving the checkpoint {workdir}/checkpoints/4 (giving it its name) has not ended within 6 s"
    assert said in output
    last = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()][-2:]
    assert [row["event"] for row in last] == ["checkpoint.failed", "run.finished"]
    assert all(row["reason"].startswith(said) for row in last)
    assert small_run.metric_rows(workdir)[-1]["metrics"] == {"failed": 1}
    small_run.finish(args, main_env)
    small_run.finish(small_run.arguments(corpus, tmp_path / "straight", {}), main_env)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(tmp_path / "straight", 16)


@pytest.mark.slow
@pytest.mark.skipif(bool(disk_faults.cannot_trace()), reason=disk_faults.cannot_trace())
def test_save_that_fails_is_a_warning_and_a_figure_and_the_run_goes_on_where_that_is_asked_for(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    args = small_run.arguments(corpus, workdir, {"checkpoint.on_failure": "go_on"})
    place = workdir / "checkpoints" / "4.saving"
    under = disk_faults.traced("trace=rename", "inject=rename:error=ENOSPC", paths=[place])
    command = [*under, sys.executable, "-m", "codex_jax.main", *args]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**main_env, "CODEX_RUN_ID": "small"}
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("4 could not be saved: No space left on device") == 1, ran.stderr
    events = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()]
    told = [(row["event"], row["step"]) for row in events if row["event"].startswith("checkpoint.")]
    assert [event for event, _ in told].count("checkpoint.failed") == 1
    assert [step for event, step in told if event == "checkpoint.saved"] == [8, 12, 16]
    (failed,) = [row for row in small_run.metric_rows(workdir) if row["split"] == "checkpoint"]
    assert failed["metrics"] == {"failed": 1} and 4 <= failed["step"] <= 8
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["12", "16"]
    small_run.finish(small_run.arguments(corpus, tmp_path / "straight", {}), main_env)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(tmp_path / "straight", 16)


# Fills the disk while steps are made, long before the next save, and makes room when the run has ended.
FILL = """
mount -t tmpfs -o size=8m t {disk} || exit 99
"$@" >{disk}.said 2>&1 &
until grep -q 'step *60/' {disk}.said; do sleep 0.02; done
cat /dev/zero >{disk}/filler 2>/dev/null
wait $!; echo ended $?
cp {disk}/run/metrics.ndjson {disk}/run/events.ndjson {disk}.full/
rm {disk}/filler
"$@" >>{disk}.said 2>&1; echo ended $?
rm -r {disk}/run/checkpoints/100; cp -r {disk}/run {disk}.kept
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(disk_faults.cannot_mount()), reason=disk_faults.cannot_mount())
def test_disk_that_is_full_under_the_ledger_ends_the_run_and_with_room_it_goes_on_as_if_nothing_had_been(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    disk, full, kept = (tmp_path / name for name in ("disk", "disk.full", "disk.kept"))
    disk.mkdir(), full.mkdir()
    changes = {"train.num_steps": 150, "checkpoint.every_steps": 50, "eval.every_steps": 50}
    args = small_run.arguments(corpus, disk / "run", changes)
    command = ["unshare", "-rm", "sh", "-c", FILL.format(disk=disk), "sh", sys.executable, "-m", "codex_jax.main"]
    env = {**main_env, "CODEX_RUN_ID": "small", "PYTHONUNBUFFERED": "1"}
    ran = subprocess.run([*command, *args], env=env, capture_output=True, text=True, timeout=300)
    said = (tmp_path / "disk.said").read_text()
    assert ran.stdout == "ended 4\nended 0\n", said + ran.stderr
    assert f"{disk}/run/metrics.ndjson" in said and "No space left on device" in said
    for name in (ledger.METRICS, ledger.EVENTS):
        lines = (full / name).read_bytes().splitlines(keepends=True)
        assert all(line.endswith(b"\n") and json.loads(line) for line in lines), "a line is torn"
    steps = [row["step"] for row in ledger.read(full / ledger.METRICS) if row["split"] == "train"]
    assert steps == list(range(1, len(steps) + 1)) and 60 <= len(steps) < 100
    straight = tmp_path / "straight"
    small_run.finish(small_run.arguments(corpus, straight, changes), main_env)
    assert small_run.metric_rows(kept) == small_run.metric_rows(straight)
    assert small_run.state_digest(kept, 150) == small_run.state_digest(straight, 150)


@pytest.mark.skipif(bool(disk_faults.cannot_mount()), reason=disk_faults.cannot_mount())
def test_disk_without_room_for_two_checkpoints_is_refused_before_step_1(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    args: list[Any] = small_run.arguments(corpus, disk / "run", {})
    script = f'mount -t tmpfs -o size=700k t {disk} && "$@"; echo ended $?; ls -A {disk}'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-m", "codex_jax.main", *args]
    ran = subprocess.run(command, env=main_env, capture_output=True, text=True, timeout=120)
    assert ran.stdout.endswith("ended 4\n"), ran.stdout + ran.stderr  # and nothing is left there
    assert "no room to save: a checkpoint of this model needs" in ran.stderr and "step     1/" not in ran.stdout
