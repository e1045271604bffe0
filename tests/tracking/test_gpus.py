"""GPUs through NVML: a process sees two of them, some, or none, and is told why."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codex_jax.tracking import gpus


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parents[2]
TWO = Path(__file__).parent / "two_gpus"
READ = """
import json, sys, time
from codex_jax.tracking.gpus import Gpus, Unread
try:
    found = Gpus()
    found.read()
    time.sleep(0.2)
    print(json.dumps({"names": found.names, **found.read()}))
except Unread as error:
    print(json.dumps({"unread": str(error)}))
"""


def read(env: Mapping[str, str], *path: Path) -> dict[str, Any]:
    """Return what a process of its own reads, with these directories before all others."""
    given = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", gpus.OFF)}
    given |= {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])), **env}
    done = subprocess.run([sys.executable, "-c", READ], env=given, capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
    return dict(json.loads(done.stdout))


def test_two_gpus_are_two_entries_and_their_mean() -> None:
    found = read({}, TWO)
    assert found["names"] == ["New", "Old"]
    assert (found["gpu0_util_percent"], found["gpu1_util_percent"], found["gpu_util_mean_percent"]) == (30, 70, 50)
    assert found["gpu1_memory_used_bytes"] == 5 << 30
    assert (found["gpu0_power_watts"], found["gpu1_power_watts"]) == (400, 100)


def test_what_a_card_does_not_measure_is_left_out() -> None:
    found = read({}, TWO)
    assert found["gpu0_temperature_celsius"] == 61 and "gpu1_temperature_celsius" not in found


def test_energy_is_counted_or_made_of_power() -> None:
    # Two readings after the first: 500 J by the counter; and 100 W for at least 0.2 s.
    assert read({"CUDA_VISIBLE_DEVICES": "0"}, TWO)["energy_joules"] == 500
    assert 20 <= read({"CUDA_VISIBLE_DEVICES": "1"}, TWO)["energy_joules"] < 500


@pytest.mark.parametrize(
    ("chosen", "names"),
    [("1", ["Old"]), ("1,0", ["Old", "New"]), ("GPU-b0", ["Old"]), ("", []), ("-1", []), ("0,7,1", ["New"])],
)
def test_cuda_says_which_are_seen(chosen: str, names: list[str]) -> None:
    assert read({"CUDA_VISIBLE_DEVICES": chosen}, TWO)["names"] == names


def test_switched_off_says_so() -> None:
    assert read({gpus.OFF: "1"}, TWO) == {"unread": "CODEX_DISABLE_NVML is set"}
    assert "names" in read({gpus.OFF: "0"}, TWO)


def test_without_the_package_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('none')\n")
    assert "pip install 'codex-jax[gpu]'" in read({}, tmp_path)["unread"]


def test_without_a_driver_it_is_said(tmp_path: Path) -> None:
    source = (TWO / "pynvml.py").read_text()
    (tmp_path / "pynvml.py").write_text(source + "\ndef nvmlInit():\n    raise NVMLError('no driver')\n")
    assert read({}, tmp_path) == {"unread": "NVML does not answer: no driver"}
