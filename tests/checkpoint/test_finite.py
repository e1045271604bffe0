"""A state that holds NaN is neither saved nor gone on from."""

import json
from collections.abc import Callable
from pathlib import Path

import forged
import jax
import jax.numpy as jnp
import pytest

from codex_jax.checkpoint import arrays, document, finite, layout, saving, store
from codex_jax.errors import AssetError, TrainingStopped


pytestmark = pytest.mark.infra


@pytest.mark.parametrize(("value", "devices"), [(float("nan"), 1), (float("inf"), 8), (float("-inf"), 1)])
def test_state_that_is_not_finite_is_not_saved(
    root: Path, save: Callable[..., list[int]], value: float, devices: int
) -> None:
    save(1)
    failed: list[str] = []
    with (
        pytest.raises(TrainingStopped, match=r"2 was not saved: params/blocks/kernel: not finite"),
        saving.Checkpointer(root, 2, lambda *_: None, on_failed=failed.append, policy=saving.Policy(go_on=True)) as one,
    ):
        one.save(2, forged.spoilt(2, value, devices), {}, {})
    assert [path.name for path in root.iterdir()] == ["1"]
    assert len(failed) == 1


def test_check_names_every_leaf_and_looks_at_floats_alone() -> None:
    state = {"a": jnp.ones(3), "b": jnp.full(2, jnp.nan), "c": jnp.arange(3), "d": jax.random.key(0), "e": jnp.ones(0)}
    assert finite.Check(state).wrong() == "b: not finite (NaN or infinite values)"
    assert finite.Check({**state, "b": jnp.full(2, -3e38)}).wrong() == ""
    many = {f"leaf{number}": jnp.array(jnp.inf) for number in range(7)}
    assert finite.Check(many).wrong().startswith("leaf0, leaf1, leaf2, leaf3, leaf4 and 2 more: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_checkpoint_that_holds_nan_is_passed_over(root: Path, save: Callable[..., list[int]], value: float) -> None:
    save(1)
    forged.put(root, 2, forged.spoilt(2, value))
    found = store.find_newest(root)
    assert found and found.step == 1
    assert found.skipped == [(2, "params/blocks/kernel: not finite (NaN or infinite values)")]
    with pytest.raises(AssetError, match="not finite"):
        store.find(root, 2)
    assert save(2) == [2] and layout.steps(root) == [2, 1]
    assert (root / "2.damaged").is_dir()


def test_checkpoint_notes_that_its_values_were_looked_at(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    found = store.find(root, 1)
    assert found.is_finite and json.loads((root / "1/meta.json").read_bytes())["finite"] is True
    forged.put(root, 2, forged.spoilt(2, 1.0))
    assert not store.find(root, 2).is_finite


def test_portions_cover_every_float(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"leaf{number}": jnp.full((100, number), float(number)) for number in range(1, 9)}
    forged.put(root, 1, {**state, "leaf5": state["leaf5"].at[7, 2].set(jnp.nan), "leaf8": state["leaf8"] * jnp.inf})
    for size in (1, 1500, 2**20):
        monkeypatch.setattr(arrays, "READ_BYTES", size)
        found = arrays.not_finite(root / "1" / store.STATE, document.read(root / "1").leaves)
        assert found == {"leaf5": 1, "leaf8": 800}
