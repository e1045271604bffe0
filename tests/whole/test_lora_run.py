"""A run that trains adapters: nothing else changes or is saved, it goes on bit for bit, and what it made goes out."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_run
import small_weights
from safetensors.numpy import load_file

from codex_jax.cli import app, opening
from codex_jax.models import lora, pretrained
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra

ADAPTED = {
    "model.num_layers": 0,
    "model.num_heads": 0,
    "model.width": 0,
    "model.vocab_size": 0,
    "model.context_length": 0,
    "adapter.rank": 2,
    "adapter.dropout": 0.1,
    "adapter.targets": "qkv,mlp/up",
    "optimizer.learning_rate": 0.05,
}


def arguments(corpus: Path, workdir: Path, base: Path, changes: Mapping[str, Any] = {}) -> list[str]:
    return small_run.arguments(corpus, workdir, {**ADAPTED, "model.weights": base, **changes})


def finish(args: list[str], env: Mapping[str, str]) -> str:
    process = small_run.start(args, env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def straight(corpus: Path, base: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    before = pretrained.digest(base)
    said = finish(arguments(corpus, workdir, base), main_env)
    # 2 layers x 2 x (32 + 96) for the heads, 2 x 2 x (32 + 128) for the MLP
    assert "trained    1,152 of them (3 %), 37,760 are frozen" in said
    assert pretrained.digest(base) == before
    return workdir


def test_adapters_alone_are_trained_and_saved(straight: Path, base: Path) -> None:
    first, last = (small_run.arrays(straight, step) for step in (12, 16))
    assert sorted(name for name in last if name.startswith("parameters/")) == [
        f"parameters/blocks/{name}/lora_{half}" for name in ("attention/qkv", "mlp/up") for half in "ab"
    ]
    assert all(not np.array_equal(first[name], last[name]) for name in last if name.startswith("parameters/"))
    assert sum(array.size for array in last.values()) < 3 * 1152 + 10
    size = sum(path.stat().st_size for path in (straight / "checkpoints" / "16").rglob("*") if path.is_file())
    assert size < 4 * 3 * 1152 + 40_000 < 4 * 3 * 37_760
    started = next(ledger.read(straight / ledger.EVENTS))
    assert (started["parameters"], started["trained_parameters"]) == (37_760 + 1152, 1152)
    assert started["model"] == "gpt2"
    meta = json.loads((straight / "checkpoints" / "16" / "meta.json").read_text())
    assert meta["meta"]["weights"] == pretrained.digest(base) == started["weights"]["digest"]


def test_killed_after_a_checkpoint_and_resumed_it_equals_the_straight_one(
    corpus: Path, base: Path, straight: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    """What a kill between the last two checkpoints leaves: rows of the ledger that are ahead of the newest of them."""
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "16")
    assert "resume     from step 12" in finish(arguments(corpus, tmp_path / "run", base), main_env)
    assert small_run.metric_rows(tmp_path / "run") == small_run.metric_rows(straight)
    assert small_run.state_digest(tmp_path / "run", 16) == small_run.state_digest(straight, 16)


def test_other_weights_under_the_adapters_are_refused_with_both_digests(
    corpus: Path, base: Path, straight: Path, run_main: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for path in base.iterdir():
        (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    small_weights.write(tmp_path / "other", seed=1)
    refused = run_main(arguments(corpus, straight, tmp_path / "other"))
    assert refused.returncode == 3, refused.stderr
    for directory in (base, tmp_path / "other"):
        assert pretrained.digest(directory)[:12] in refused.stderr


@pytest.mark.slow
def test_adapters_of_a_base_in_few_bits_are_folded_into_the_base_as_it_was(
    corpus: Path, base: Path, run_main: Callable[..., Any], tmp_path: Path
) -> None:
    done = run_main(arguments(corpus, tmp_path / "run", base, {"quantization.mode": "nf4", "train.num_steps": 2}))
    assert done.returncode == 0, done.stderr
    assert app.main(["model", "merge", str(tmp_path / "run"), str(tmp_path / "merged")]) == 0
    before, after = (load_file(directory / "model.safetensors") for directory in (base, tmp_path / "merged"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {f"transformer.h.{n}.{one}.weight" for n in (0, 1) for one in ("attn.c_attn", "mlp.c_fc")}


@pytest.mark.slow
def test_adapters_go_out_to_peft_and_merged_and_come_back(
    corpus: Path, base: Path, straight: Path, run_main: Callable[..., Any], tmp_path: Path
) -> None:
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    assert app.main(["model", "export", str(straight), str(merged)]) == 2
    assert app.main(["model", "export", str(straight), str(adapter), "--adapter", "--flax"]) == 2
    assert app.main(["model", "export", str(straight), str(adapter), "--adapter"]) == 0
    assert app.main(["model", "merge", str(straight), str(merged)]) == 0
    made = opening.trained(straight, None, [("parallel.data", "0")])
    definition = made.model.definition
    whole = pretrained.load(
        merged, definition, jax.tree.map(lambda leaf: leaf.sharding, lora.split(made.parameters)[0])
    )
    expected = lora.merged(made.parameters, made.settings.adapter)
    jax.tree.map(np.testing.assert_array_equal, whole, expected)
    still = {"optimizer.learning_rate": 0, "optimizer.final_learning_rate": 0, "train.num_steps": 1}
    plain = {"adapter.rank": 0, "adapter.targets": "", "adapter.weights": adapter}
    args = arguments(corpus, tmp_path / "again", base, {**plain, **still})
    done = run_main(args)
    assert done.returncode == 0, done.stderr
    again = opening.trained(tmp_path / "again", None, [("parallel.data", "0")])
    assert jax.tree.structure(again.parameters) == jax.tree.structure(made.parameters)
    jax.tree.map(np.testing.assert_array_equal, again.parameters, made.parameters)
    # What was taken from the adapter is kept: resumed, the run needs its directory no more.
    adapter.rename(tmp_path / "moved")
    done = run_main(args)
    assert done.returncode == 0 and "finished   at step 1 already" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"train.trainable": "norm/"}, {"train.freeze_layers": 1}], ids=str)
def test_a_run_that_freezes_keeps_the_bits_of_the_rest(
    corpus: Path, base: Path, run_main: Callable[..., Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    free = {"adapter.rank": 0, "adapter.dropout": 0, "adapter.targets": "", "train.num_steps": 4}
    done = run_main(arguments(corpus, tmp_path / "run", base, {**free, **changes}))
    assert done.returncode == 0 and " are frozen" in done.stdout, done.stderr
    found = opening.trained(tmp_path / "run", None, [("parallel.data", "0")])
    begun = pretrained.load(base, found.model.definition, jax.tree.map(lambda leaf: leaf.sharding, found.parameters))
    up, began = (tree["blocks"]["mlp"]["up"]["kernel"] for tree in (found.parameters, begun))
    frozen = 2 if "train.trainable" in changes else 1
    np.testing.assert_array_equal(up[:frozen], began[:frozen])
    assert (found.parameters["norm"]["scale"] != begun["norm"]["scale"]).all()
    kept = [name for name in small_run.arrays(tmp_path / "run", 4) if name.startswith("parameters/")]
    assert any("mlp/up" in name for name in kept) == ("train.freeze_layers" in changes)
