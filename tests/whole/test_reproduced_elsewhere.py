"""`codex-jax run reproduce` of runs that are not plain ones: adapters, a store, several devices, a kill on the way."""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import small_run
from small_pair import Pair


pytestmark = [pytest.mark.infra, pytest.mark.slow]

SHORT = {"train.num_steps": 8, "eval.every_steps": 4}
# Of the weights, not of the settings.
TAKEN = {name: 0 for name in ("num_layers", "num_heads", "width", "vocab_size", "context_length")}
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def reproduce(run: Path, env: Mapping[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codex_jax.cli.app", "run", "reproduce", str(run), *map(str, arguments)]
    return subprocess.run(command, cwd=run.parent, env=env, capture_output=True, text=True, timeout=300)


def assert_reproduced(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert re.search(r"\nreproduced: \d+ steps, ", done.stdout)
    return done.stdout


def test_adapters_on_weights_of_a_directory(corpus: Path, base: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    changes = {**SHORT, **{f"model.{name}": value for name, value in TAKEN.items()}}
    changes |= {"model.weights": base, "adapter.rank": 2, "adapter.dropout": 0.1}
    small_run.finish(small_run.arguments(corpus, tmp_path / "a", changes), main_env)
    assert re.search(r"^weights +the same, ", assert_reproduced(reproduce(tmp_path / "a", main_env)), re.MULTILINE)


def test_a_store(corpus: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    changes = {**SHORT, "data.store": tmp_path / "store"}
    flags = [flag for flag in small_run.arguments(corpus, tmp_path / "a", changes) if "--workdir" not in flag]
    command = [sys.executable, "-m", "codex_jax.cli.app", "data", "build", *flags]
    built = subprocess.run(command, cwd=tmp_path, env=main_env, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    small_run.finish(small_run.arguments(corpus, tmp_path / "a", {**changes, "data.mode": "store"}), main_env)
    # Moved, it is read where it is said to be.
    there = (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert_reproduced(reproduce(tmp_path / "a", main_env, f"--config.data.store={there}"))


def test_two_processes_are_made_again_by_one_with_as_many_devices(
    corpus: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    Pair(corpus, tmp_path / "a", main_env, SHORT).finish()
    done = reproduce(tmp_path / "a", main_env)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "not reproduced: they part at step" in said
    assert "It was trained on 2 devices, now on 1 device: without parallel.deterministic_reduction" in said
    assert f"; XLA_FLAGS={TWO_DEVICES['XLA_FLAGS']} makes as many of a CPU" in said
    assert_reproduced(reproduce(tmp_path / "a", {**main_env, **TWO_DEVICES}, "--workdir=b"))


def test_a_run_that_was_killed_and_went_on(corpus: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    args = small_run.arguments(corpus, tmp_path / "a", SHORT)
    process = small_run.start(args, main_env)
    small_run.wait_for(process, "step 6/8")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=100)
    small_run.finish(args, main_env)
    assert_reproduced(reproduce(tmp_path / "a", main_env))
