"""`codex-jax checkpoint` on a checkpoint that holds NaN: refused, named, and all the same compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import bare
import checkpoint_examples as examples
import forged
import jax.numpy as jnp
import pytest

from codex_jax import config, rundir
from codex_jax.checkpoint import layout, store
from codex_jax.errors import AssetError


if TYPE_CHECKING:
    from conftest import Command

pytestmark = pytest.mark.infra

KERNEL = "params/blocks/kernel"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a good checkpoint, and a newer one of the same state but for one NaN."""
    run = tmp_path / "run"
    run.mkdir()
    rundir.begin(run, "r1", config.to_dict(config.Config()), {})
    forged.put(run / "checkpoints", 1, examples.make(7, examples.mesh(1)))
    forged.put(run / "checkpoints", 2, forged.spoilt(7, float("nan")))
    return run


def test_verify_names_the_leaf_that_holds_nan(run: Path, command: "Command") -> None:
    """What training refuses, verify and list name."""
    done = command("checkpoint", "verify", "run")
    assert (done.code, done.err) == (3, "codex_jax: 1 of 2 checkpoints of run damaged: 2\n")
    damaged, whole = done.out.splitlines()
    assert damaged == f"2  damaged: {KERNEL}: not finite (NaN or infinite values)"
    assert whole.startswith("1  whole, ")
    rows = json.loads(command("checkpoint", "list", "run", "--verify", "--json").out)["checkpoints"]
    assert [row["state"] for row in rows] == ["damaged", "whole"]
    assert rows[0]["wrong"] == f"{KERNEL}: not finite (NaN or infinite values)"


def test_diff_compares_a_checkpoint_that_holds_nan_and_says_so(run: Path, command: "Command") -> None:
    done = command("checkpoint", "diff", "run", 1, 2)
    assert (done.code, done.err) == (1, "codex_jax: the checkpoints differ\n")
    assert f"not finite in B:  1 in {KERNEL}\n" in done.out
    assert f"{KERNEL}: 1 of 2,048 elements differ\n" in done.out
    assert "in A:" not in done.out and "0 of the 15 other leaves differ\n" in done.out
    told = json.loads(command("checkpoint", "diff", "run/checkpoints/2", "run/checkpoints/1", "--json").out)
    assert told["not_finite"] == {"a": {KERNEL: 1}, "b": {}}
    assert [(row["name"], row["differ"], row["largest"]) for row in told["leaves"]] == [(KERNEL, 1, None)]


def test_diff_of_two_equal_checkpoints_that_hold_nan(run: Path, command: "Command") -> None:
    done = command("checkpoint", "diff", "run", 2, 2)
    assert done.code == 0 and "equal: 16 leaves" in done.out
    assert all(f"not finite in {side}:  1 in {KERNEL}\n" in done.out for side in "AB")


def test_largest_difference_is_said_to_be_that_of_finite_values(run: Path, command: "Command") -> None:
    state = forged.spoilt(7, float("inf"))
    kernel = state.params["blocks"]["kernel"]
    gap = abs(float(kernel[0, 0, 0]) - 1.5)
    state.params["blocks"]["kernel"] = kernel.at[0, 0, 0].set(1.5)
    state.params["blocks"]["bias"] = state.params["blocks"]["bias"] * jnp.nan
    forged.put(run / "checkpoints", 3, state)
    out = command("checkpoint", "diff", "run", 1, 3).out
    assert f"not finite in B:  16 in params/blocks/bias, 1 in {KERNEL}\n" in out
    assert "params/blocks/bias: 16 of 16 elements differ\n" in out
    state.params["blocks"]["bias"] = examples.make(7, examples.mesh(1)).params["blocks"]["bias"]
    forged.put(run / "checkpoints", 4, state)
    out = command("checkpoint", "diff", "run", 1, 4).out
    assert f"{KERNEL}: 2 of 2,048 elements differ, the finite ones by {gap:.6g} at most" in " ".join(out.split())


def test_more_leaves_than_are_named_are_counted(run: Path, command: "Command") -> None:
    for step, value in ((5, 1.0), (6, jnp.nan)):
        forged.put(run / "checkpoints", step, {f"leaf{number}": jnp.full(3, value) for number in range(7)})
    out = command("checkpoint", "diff", "run", 5, 6).out
    assert "3 in leaf4, some in 2 more leaves" in " ".join(out.split())


def test_bytes_are_verified_before_any_is_compared(run: Path, command: "Command") -> None:
    values = next(path for path in (run / "checkpoints" / "2" / "state").rglob("d/*") if path.is_file())
    bare.flip(values)
    done = command("checkpoint", "diff", "run", 1, 2)
    assert done.code == 3 and "SHA-256 differs" in done.err and done.out == ""


def test_what_may_be_looked_at_is_refused_to_go_on_from(run: Path) -> None:
    read: list[Callable[[], object]] = [
        lambda: store.load(run / "checkpoints" / "2"),
        lambda: store.find(run / "checkpoints", 2),
    ]
    for one in read:
        with pytest.raises(AssetError, match=f"{KERNEL}: not finite"):
            one()
    found = store.find_newest(run / "checkpoints")
    assert found and found.step == 1
    assert store.not_finite(store.load_as_written(run / "checkpoints" / "2")) == {KERNEL: 1}


def test_prune_never_deletes_what_is_usable_for_what_holds_nan(run: Path, command: "Command") -> None:
    done = command("checkpoint", "prune", "run", "--keep-last", 1)
    assert done.code == 0 and f"{KERNEL}: not finite (NaN or infinite values); it is kept" in done.err
    assert layout.steps(run / "checkpoints") == [2, 1]
    told = json.loads(command("checkpoint", "prune", "run", "--keep-last", 1, "--json").out)
    assert [row["step"] for row in told["stays"]] == [1] and [row["step"] for row in told["damaged"]] == [2]
