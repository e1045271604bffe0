"""Where arrays live, and what is said when they do not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from codex_jax import config, sharding, trees
from codex_jax.errors import ConfigError
from codex_jax.models import build


pytestmark = pytest.mark.model

MODEL = dataclasses.replace(
    config.Config().model, vocab_size=96, context_length=16, num_layers=2, num_heads=2, width=32
)


def test_every_parameter_has_a_place_and_is_split_by_it() -> None:
    mesh = sharding.make_mesh(config.Parallel(data=2, fsdp=2, tensor=2))
    places = sharding.of_tree(build.define(MODEL).abstract, mesh)
    specs = {name: place.spec for name, place in trees.named_leaves(places)}
    assert specs["tokens/embedding"] == P("tensor", "fsdp")
    assert specs["blocks/mlp/up/kernel"] == P(None, "fsdp", "tensor")


def test_leaf_without_a_rule_is_named() -> None:
    with pytest.raises(ConfigError, match="blocks/new/thing"):
        sharding.of_tree({"blocks": {"new": {"thing": jnp.zeros(4)}}}, sharding.make_mesh(config.Parallel()))


def test_vocabulary_that_does_not_divide_is_named_with_the_way_out() -> None:
    model = dataclasses.replace(MODEL, vocab_size=97)
    with pytest.raises(ConfigError, match=r"model.vocab_size(.|\n)*tokens/embedding: axis 0 of \(97, 32\)"):
        sharding.of_tree(build.define(model).abstract, sharding.make_mesh(config.Parallel(tensor=2)))


def test_mesh_must_use_all_devices() -> None:
    with pytest.raises(ConfigError, match=r"3 x 1 x 1 = 3, but there are 8 devices"):
        sharding.make_mesh(config.Parallel(data=3))
    assert sharding.make_mesh(config.Parallel(tensor=4)).shape == {"data": 2, "fsdp": 1, "tensor": 4}


def test_batch_must_divide_over_the_devices() -> None:
    mesh = sharding.make_mesh(config.Parallel())
    with pytest.raises(ConfigError, match=r"train\.global_batch_size=12 does not divide over the 8 devices"):
        sharding.check_batch(config.Train(global_batch_size=12), mesh)
    with pytest.raises(ConfigError, match=r"train\.microbatch_size=4"):
        sharding.check_batch(config.Train(global_batch_size=16, microbatch_size=4), mesh)
    sharding.check_batch(config.Train(global_batch_size=16, microbatch_size=8), mesh)
    assert jax.device_count() == 8


def test_one_process_holds_the_whole_batch() -> None:
    assert sharding.part_of_batch(sharding.make_mesh(config.Parallel(tensor=2))) == (0, 1)
