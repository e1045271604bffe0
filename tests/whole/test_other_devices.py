"""A run goes on with other devices and other processes: to the bit where that was asked for, else near it, and said."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run
from small_pair import Pair


pytestmark = [pytest.mark.infra, pytest.mark.slow]

ROWS = {"train.global_batch_size": 16, "train.microbatch_size": 8}
ONE_ORDER = {**ROWS, "parallel.deterministic_reduction": 8}
# Dropout is drawn by row of the whole batch then, so masks do not depend on the devices either.
ANY_ORDER = ROWS


def on(devices: int, env: Mapping[str, str]) -> dict[str, str]:
    return {**env, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


@pytest.fixture(scope="module")
def exact(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run on four devices, to its end."""
    workdir = tmp_path_factory.mktemp("exact") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, ONE_ORDER), on(4, main_env))
    return workdir


@pytest.fixture(scope="module")
def near(corpus: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without an order."""
    workdir = tmp_path_factory.mktemp("near") / "run"
    small_run.finish(small_run.arguments(corpus, workdir, ANY_ORDER), on(4, main_env))
    return workdir


def stopped(run: Path, workdir: Path) -> Path:
    """Copy a run as it was after step 12."""
    shutil.copytree(run, workdir)
    shutil.rmtree(workdir / "checkpoints" / "16")
    return workdir


def resumed(workdir: Path) -> dict[str, Any]:
    """Return the event of the last resume."""
    rows = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()]
    return next(row for row in reversed(rows) if row["event"] == "run.resumed")


def assert_same_bits(workdir: Path, other: Path) -> None:
    assert small_run.metric_rows(workdir) == small_run.metric_rows(other)
    assert small_run.state_digest(workdir, 16) == small_run.state_digest(other, 16)
    reports = [
        [event for event in small_run.replayed_events(one) if event["event"].startswith("data.")]
        for one in (workdir, other)
    ]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_run_resumed_on_other_devices_is_the_straight_one(
    corpus: Path, exact: Path, main_env: dict[str, str], tmp_path: Path, devices: int
) -> None:
    workdir = stopped(exact, tmp_path / "run")
    said = small_run.finish(small_run.arguments(corpus, workdir, ONE_ORDER), on(devices, main_env))
    assert "from step 12" in said and "not bit-exact" not in said
    assert resumed(workdir)["bit_exact"] is True
    assert_same_bits(workdir, exact)


def test_run_on_one_device_is_that_on_four(corpus: Path, exact: Path, main_env: dict[str, str], tmp_path: Path) -> None:
    small_run.finish(small_run.arguments(corpus, tmp_path / "run", ONE_ORDER), on(1, main_env))
    assert_same_bits(tmp_path / "run", exact)


def test_two_processes_are_one_and_each_goes_on_with_the_other(
    corpus: Path, exact: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    Pair(corpus, tmp_path / "pair", main_env, ONE_ORDER).finish()
    assert_same_bits(tmp_path / "pair", exact)
    one = stopped(tmp_path / "pair", tmp_path / "two to one")
    small_run.finish(small_run.arguments(corpus, one, ONE_ORDER), main_env)
    two = stopped(exact, tmp_path / "one to two")
    Pair(corpus, two, main_env, ONE_ORDER).finish()
    for workdir in (one, two):
        assert resumed(workdir)["bit_exact"] is True
        assert_same_bits(workdir, exact)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_run_without_an_order_goes_on_near_it_and_says_so(
    corpus: Path, near: Path, main_env: dict[str, str], tmp_path: Path, devices: int
) -> None:
    workdir = stopped(near, tmp_path / "run")
    said = small_run.finish(small_run.arguments(corpus, workdir, ANY_ORDER), on(devices, main_env))
    assert ("not bit-exact" in said) == (devices != 4)
    assert f"saved on 4 x cpu in one process, and this is {devices} x cpu in one process" in said or devices == 4
    assert resumed(workdir)["bit_exact"] is (devices == 4)
    if devices == 4:
        assert_same_bits(workdir, near)
    for here, there in zip(small_run.metric_rows(workdir), small_run.metric_rows(near), strict=True):
        assert (here["split"], here["step"]) == (there["split"], there["step"])
        if "loss" in here["metrics"]:
            assert here["metrics"]["loss"] == pytest.approx(there["metrics"]["loss"], rel=1e-5)
    position = "checkpoints/16/data/iterator.json"
    assert (workdir / position).read_bytes() == (near / position).read_bytes()


def test_changed_order_is_refused(corpus: Path, exact: Path, run_main: Any, tmp_path: Path) -> None:
    workdir = stopped(exact, tmp_path / "run")
    result = run_main(small_run.arguments(corpus, workdir, {**ONE_ORDER, "parallel.deterministic_reduction": 4}))
    assert result.returncode == 2
    assert "parallel.deterministic_reduction: 8 in the checkpoint, 4 now" in result.stderr
