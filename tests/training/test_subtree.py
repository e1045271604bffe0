"""What is frozen keeps its bits and costs no moments; what is trained is trained as if the rest were constants."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_step import ALL_AXES, ONE, SMOOTH, Compiled, batch_of, prepare, with_train

from codex_jax import config, sharding, trees
from codex_jax.errors import ConfigError
from codex_jax.models import build
from codex_jax.training import subtree
from codex_jax.training.program import Program
from codex_jax.training.state import TrainState


pytestmark = pytest.mark.model


def frozen_of(made: Program) -> dict[str, Any]:
    """The frozen leaves, with values of their own."""
    return jax.tree.map(
        lambda leaf: jax.device_put(0.02 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), leaf.sharding),
        made.frozen,
    )


def updated(made: Compiled, frozen: dict[str, Any], *, updates: int = 3) -> tuple[TrainState, TrainState]:
    """The state before and after some updates."""
    state = made.initial()
    before = jax.device_get(state)
    for index in range(updates):
        state, output = made.update(state, batch_of(index), index, frozen)
        assert bool(output.finite)
    return before, jax.device_get(state)


def test_only_chosen_leaves_are_in_the_state_and_change() -> None:
    made = prepare(with_train(SMOOTH, trainable=("norm/", "^positions")), ALL_AXES)
    frozen = frozen_of(made.program)
    kept = jax.device_get(frozen)
    before, after = updated(made, frozen)
    names = [name for name, _ in trees.named_leaves(after.parameters)]
    assert names and all("norm/" in name or name.startswith("positions/") for name in names)
    moments = [name for name, leaf in trees.named_leaves(after.optimizer) if leaf.ndim]
    assert len(moments) == 2 * len(names)
    for (name, old), (_, new) in zip(
        trees.named_leaves(before.parameters), trees.named_leaves(after.parameters), strict=True
    ):
        assert not np.array_equal(old, new), name
    jax.tree.map(np.testing.assert_array_equal, kept, jax.device_get(frozen))


def test_gradient_of_the_rest_is_that_of_the_whole() -> None:
    """The update of the trained leaves is the one they get when everything is trained, but for the shared norm."""
    unclipped = dataclasses.replace(SMOOTH, optimizer=dataclasses.replace(SMOOTH.optimizer, clip_norm=0.0))
    whole = prepare(unclipped, ONE)
    parameters = jax.device_get(whole.initial().parameters)
    state, _ = whole.update(whole.initial(), batch_of(0), 0)
    part = prepare(with_train(unclipped, trainable=("mlp/up", "^norm/")), ONE)
    made = part.program
    given, frozen = trees.split(parameters, made.trained)
    placed = [
        jax.tree.map(lambda leaf, at: jax.device_put(leaf, at.sharding), leaves, places)
        for leaves, places in ((given, made.target.parameters), (frozen, made.frozen))
    ]
    alone, _ = part.update(made.initial(placed[0]), batch_of(0), 0, placed[1])
    expected, _ = trees.split(state.parameters, made.trained)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), alone.parameters, expected)


def test_first_layers_keep_their_bits_through_gradient_and_decay() -> None:
    before, after = updated(prepare(with_train(SMOOTH, freeze_layers=1), ALL_AXES), {})
    for (name, old), (_, new) in zip(
        trees.named_leaves(before.parameters), trees.named_leaves(after.parameters), strict=True
    ):
        if name.startswith("blocks/"):
            np.testing.assert_array_equal(old[:1].view(np.uint32), new[:1].view(np.uint32), err_msg=name)
            assert not np.array_equal(old[1], new[1]), name
        else:
            assert not np.array_equal(old, new), name


def test_frozen_layers_do_not_count_in_the_norm_that_is_clipped() -> None:
    both = (prepare(with_train(SMOOTH, freeze_layers=layers), ALL_AXES) for layers in (0, 1))
    norms = [float(made.update(made.initial(), batch_of(0), 0)[1].grad_norm) for made in both]
    assert 0 < norms[1] < norms[0]


def test_given_values_are_where_training_begins() -> None:
    made, mesh = prepare(SMOOTH, ALL_AXES).program, prepare(SMOOTH, ALL_AXES).mesh
    scale = jax.device_put(jnp.full(32, 3.0), sharding.replicated(mesh))
    state = made.initial({"norm": {"scale": scale}})
    np.testing.assert_array_equal(state.parameters["norm"]["scale"], np.full(32, 3.0))
    fresh = made.initial({})
    np.testing.assert_array_equal(state.parameters["tokens"]["embedding"], fresh.parameters["tokens"]["embedding"])
    assert jax.tree.structure(state) == jax.tree.structure(fresh)


def test_patterns_that_match_nothing_are_named_with_the_leaves_there_are() -> None:
    abstract = build.define(SMOOTH.model).abstract
    with pytest.raises(ConfigError, match=r"2 mistakes(.|\n)*nrom(.|\n)*head(.|\n)*blocks/mlp/up/kernel"):
        subtree.trained(with_train(SMOOTH, trainable=("nrom", "^norm", "head")).train, abstract)
    with pytest.raises(ConfigError, match=r"freeze_layers=2 leaves nothing to train of blocks/mlp/up/bias"):
        subtree.trained(with_train(SMOOTH, trainable=("mlp/up",), freeze_layers=2).train, abstract)


def test_wrong_patterns_and_depths_are_refused_at_once() -> None:
    settings = config.default()
    settings.model.num_layers, settings.train.freeze_layers = 2, 3
    settings.train.trainable, settings.model.weights = ("norm(",), "somewhere"
    with pytest.raises(ConfigError, match=r"2 mistakes") as refused:
        config.resolve(settings.to_dict())
    assert "train.freeze_layers=3 is more than model.num_layers=2" in str(refused.value)
    assert "train.trainable=norm( is no regular expression" in str(refused.value)


def test_split_trees_are_put_together_again_and_an_overlap_is_named() -> None:
    tree = {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    first, second = trees.split(tree, {"a": {"b": True, "c": False}, "d": {"e": False}})
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}, "d": {"e": 3}})
    assert trees.joined(first, second) == tree
    with pytest.raises(ValueError, match="b is a leaf of both"):
        trees.joined(first, tree)
