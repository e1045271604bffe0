"""What a run measures: in its ledger, in system.ndjson, in a profile; on a machine that has two GPUs to look at."""

import csv
import gzip
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.tracking import calls, ledger


pytestmark = pytest.mark.infra

TWO_GPUS = Path(__file__).resolve().parents[1] / "tracking" / "two_gpus"
CHANGES = {
    "train.layer_stats_every": 8,
    "tracking.system_every_secs": 0.1,
    "tracking.profile_from_step": 5,
    "tracking.profile_steps": 2,
}


@pytest.fixture(scope="module")
def env(main_env: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(TWO_GPUS), main_env.get("PYTHONPATH"))))
    return {**main_env, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def run(corpus: Path, env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that measures all there is, and what it printed."""
    workdir = tmp_path_factory.mktemp("measured") / "run"
    return workdir, small_run.finish(small_run.arguments(corpus, workdir, CHANGES), env)


def events(workdir: Path, name: str) -> list[dict[str, Any]]:
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == name]


def rows(workdir: Path, split: str) -> dict[int, dict[str, float]]:
    return {row["step"]: row["metrics"] for row in ledger.read(workdir / ledger.METRICS) if row["split"] == split}


def test_time_of_a_step_is_split_without_a_rest(run: tuple[Path, str]) -> None:
    for found in list(rows(run[0], "speed").values())[1:]:
        parts = found["input_wait_secs"] + found["device_wait_secs"] + found["host_secs"]
        assert parts == pytest.approx(found["step_secs"], rel=1e-6)
        assert found["tokens_per_sec_per_device"] <= found["tokens_per_sec"]
        assert found["compiles"] >= 2 and found["compile_secs"] > 0


def test_norms_of_all_layers_make_up_those_of_the_step(run: tuple[Path, str]) -> None:
    layers, train = rows(run[0], "layers"), rows(run[0], "train")
    assert list(layers) == [8, 16]
    for step, found in layers.items():
        for kind, whole in (("grad_norm", "grad_norm"), ("weight_norm", "param_norm")):
            squares = [value**2 for name, value in found.items() if name.startswith(f"{kind}/")]
            assert math.sqrt(sum(squares)) == pytest.approx(train[step][whole], rel=1e-5)
    assert any(name.startswith("weight_norm/blocks/1/") for name in layers[8])


def test_each_leaf_has_a_histogram_of_its_weights(run: tuple[Path, str]) -> None:
    found = [row for row in events(run[0], "histogram") if row["step"] == 8]
    parameters = events(run[0], "run.started")[0]["parameters"]
    assert sum(sum(row["counts"]) for row in found) == parameters
    assert all(len(row["edges"]) == len(row["counts"]) + 1 for row in found)


def test_looking_changes_no_number(run: tuple[Path, str], corpus: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    small_run.finish(small_run.arguments(corpus, tmp_path / "plain", {"tracking.system_every_secs": 0}), env)
    seen = [row for row in small_run.metric_rows(run[0]) if row["split"] != "layers"]
    assert seen == small_run.metric_rows(tmp_path / "plain")
    assert small_run.state_digest(run[0], 16) == small_run.state_digest(tmp_path / "plain", 16)
    assert not (tmp_path / "plain" / calls.SYSTEM).exists() and not (tmp_path / "plain" / "profile").exists()


def test_energy_is_told_at_the_end(run: tuple[Path, str]) -> None:
    workdir, output = run
    (started,), (finished,) = events(workdir, "run.started"), events(workdir, "run.finished")
    assert started["system"] == {"every_secs": 0.1, "gpus": ["New", "Old"], "note": ""}
    tokens = rows(workdir, "train")[16]["tokens"]
    assert finished["joules_per_million_tokens"] == pytest.approx(finished["energy_joules"] * 1e6 / tokens)
    last = list(ledger.read(workdir / calls.SYSTEM))[-1]
    assert last["metrics"]["energy_joules"] == finished["energy_joules"] and last["step"] == 16
    assert "J per million tokens" in " ".join(output.split())


def test_a_copy_has_every_row_of_the_machine(run: tuple[Path, str]) -> None:
    looked = ledger.read(run[0] / calls.SYSTEM)
    expected = [(row["step"], name, value) for row in looked for name, value in row["metrics"].items()]
    with open(run[0] / "metrics.csv", newline="") as file:
        copied = [row for row in csv.DictReader(file) if row["split"] == "system"]
    assert [(int(row["step"]), row["name"], float(row["value"])) for row in copied] == expected


def test_profile_holds_the_steps_of_its_window(run: tuple[Path, str]) -> None:
    (saved,) = events(run[0], "profile.saved")
    assert (saved["first"], saved["last"], saved["step"]) == (5, 6, 6)
    assert [name for name in saved["files"] if name.endswith(".xplane.pb")]  # TensorBoard's profile plugin reads it
    (perfetto,) = [run[0] / name for name in saved["files"] if name.endswith("perfetto_trace.json.gz")]
    seen = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    assert [event["args"]["step_num"] for event in seen if event.get("name") == "train"] == ["5", "6"]
