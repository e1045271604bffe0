"""Where arrays live, and what is said when they do not fit."""

import dataclasses
import subprocess
import sys

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


def test_shards_of_the_sums_must_divide_over_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJRT_NPROC", "4")
    with pytest.raises(ConfigError, match=r"deterministic_reduction=4 does not divide over the 8 devices"):
        sharding.make_mesh(config.Parallel(deterministic_reduction=4))


def test_other_number_of_threads_is_refused_once_jax_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jax.device_count() == 8
    monkeypatch.setenv("PJRT_NPROC", "3")
    with pytest.raises(ConfigError, match=r"needs 8 threads(.|\n)*PJRT_NPROC=8"):
        sharding.make_mesh(config.Parallel(deterministic_reduction=8))


_PRODUCT = """
import hashlib, jax, numpy, sys
from codex_jax import config, sharding
sharding.make_mesh(config.Parallel(deterministic_reduction=8))
left, right = (numpy.random.default_rng(seed).standard_normal((2048, 64), numpy.float32) for seed in (0, 1))
product = jax.jit(lambda left, right: jax.numpy.dot(left.T, right, precision="highest"))(left, right)
print(jax.device_count(), hashlib.sha256(numpy.asarray(product).tobytes()).hexdigest())
"""


def test_long_product_is_the_same_whatever_the_number_of_devices(main_env: dict[str, str]) -> None:
    """Left to itself jax has as many threads as cores or devices, and cuts what is summed up by their number."""
    said = []
    for devices in (1, 8):
        env = {**main_env, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        made = subprocess.run([sys.executable, "-c", _PRODUCT], env=env, capture_output=True, text=True, check=True)
        said.append(made.stdout.split())
    assert [one[0] for one in said] == ["1", "8"]
    assert said[0][1] == said[1][1]


def test_one_process_holds_the_whole_batch() -> None:
    assert sharding.part_of_batch(sharding.make_mesh(config.Parallel(tensor=2))) == (0, 1)
