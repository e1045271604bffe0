"""What a CPU can do at most is what it was once seen to do."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from codex_jax.training import cpu_peak


pytestmark = pytest.mark.model


def test_the_highest_figure_stays(tmp_path: Path) -> None:
    path = tmp_path / "figure.json"
    assert [cpu_peak.keep_highest(path, measured) for measured in (2e9, 3e9, 1e9)] == [2e9, 3e9, 3e9]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"flops_per_sec": null}'])
def test_a_damaged_figure_is_measured_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "figure.json"
    path.write_text(content)
    assert cpu_peak.keep_highest(path, 2e9) == 2e9
    assert json.loads(path.read_bytes()) == {"flops_per_sec": 2e9}


def test_a_figure_that_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    assert cpu_peak.keep_highest(tmp_path / "gone" / "figure.json", 2e9) == 2e9


def test_each_type_has_its_own_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path))
    figures = [cpu_peak.flops(jnp.dtype(name)) for name in ("float32", "bfloat16")]
    kept = sorted(json.loads(path.read_bytes())["flops_per_sec"] for path in (tmp_path / "cpu_peak").iterdir())
    assert kept == sorted(figures) and min(figures) > 1e8
