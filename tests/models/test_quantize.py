"""A model in few bits computes what the weights that its codes stand for compute, wherever it comes from."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_families
import torch_models
import written

from codex_jax import config, sharding, trees
from codex_jax.errors import ConfigError
from codex_jax.models import build, codes, lora, pretrained, quantize
from codex_jax.models.codes import Coded
from codex_jax.training import program


pytestmark = pytest.mark.model

FLOAT32 = jnp.dtype("float32")
MODEL = dataclasses.replace(
    config.Model(),
    name="tinyllama-1.1b-chat",
    vocab_size=96,
    context_length=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    width=32,
    mlp_width=72,
    compute_dtype="float32",
)


def decoded(definition: build.Definition, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the plain model that the codes stand for."""
    made = {}
    for name, leaf in trees.named_leaves(parameters):
        product, _, last = name.rpartition("/")
        if last == "codes":
            layers, inputs, *features = definition.kernels[f"{product}/kernel"]
            scales = dict(trees.named_leaves(parameters))[f"{product}/scales"]
            kernels = [codes.decode(Coded(leaf[n], scales[n]), inputs, FLOAT32) for n in range(layers)]
            made[f"{product}/kernel"] = jnp.stack(kernels).reshape(layers, inputs, *features)
        elif last != "scales":
            made[name] = leaf
    tree: dict[str, Any] = {}
    for name, leaf in made.items():
        *path, last = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


USUAL = (("gpt2", "int8"), ("llama-bias", "nf4"), ("bert", "nf4"))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[] if (name, mode) in USUAL else pytest.mark.slow)
        for name in ("gpt2", "llama-bias", "gemma3", "bert")
        for mode in ("int8", "nf4")
    ],
)
def test_weights_are_coded_as_they_are_read_and_compute_what_their_codes_stand_for(
    torch_oracle: ModuleType, tmp_path: Path, name: str, mode: str
) -> None:
    directory = written.write(torch_models.network(name), tmp_path)
    plain = build.define(written.settings(directory))
    definition = quantize.quantized(plain, config.Quantization(mode=mode))
    loaded = pretrained.load(directory, definition, written.on_one_device(definition))
    whole = pretrained.load(directory, plain, written.on_one_device(plain))
    jax.tree.map(np.testing.assert_array_equal, loaded, jax.jit(lambda given: quantize.coded(definition, given))(whole))
    tokens_BL = np.random.default_rng(1).integers(0, definition.shape.vocab_size, (2, 40)).astype(np.int32)
    found = test_families.logits(definition, loaded, tokens_BL)
    expected = test_families.logits(plain, decoded(definition, loaded), tokens_BL)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found - test_families.logits(plain, whole, tokens_BL)).max() > 2e-4


def test_targets_choose_the_kernels_and_one_that_matches_none_is_refused() -> None:
    plain = build.define(MODEL)
    some = quantize.quantized(plain, config.Quantization(mode="int8", targets=("mlp/",)))
    assert set(some.kernels) == {f"blocks/mlp/{name}/kernel" for name in ("gate", "up", "down")}
    assert quantize.quantized(plain, config.Quantization()) is plain
    with pytest.raises(ConfigError, match=r"quantization\.targets=mpl matches none of blocks/attention/key"):
        quantize.quantized(plain, config.Quantization(mode="int8", targets=("mpl",)))


def test_a_quantised_base_counts_all_its_parameters() -> None:
    plain = lora.adapted(build.define(MODEL), config.Adapter(rank=2))
    made = quantize.quantized(plain, config.Quantization(mode="nf4"))
    assert made.num_parameters == plain.num_parameters == trees.num_parameters(plain.abstract)
    assert trees.num_parameters(made.abstract) != plain.num_parameters


@pytest.mark.parametrize("mode", [pytest.param("int8", marks=pytest.mark.slow), "nf4"])
def test_adapters_learn_beside_codes_over_eight_devices_as_beside_what_they_stand_for(mode: str) -> None:
    settings = dataclasses.replace(
        config.Config(),
        model=MODEL,
        adapter=config.Adapter(rank=2, targets=("attention/", "mlp/")),
        quantization=config.Quantization(mode=mode),
        train=dataclasses.replace(config.Train(), global_batch_size=8, num_steps=4),
        optimizer=dataclasses.replace(config.Optimizer(), learning_rate=1e-2, epsilon=1e-3),
    )
    mesh = sharding.make_mesh(config.Parallel(data=2, fsdp=2, tensor=2))
    coded = program.make(settings, mesh)
    base = jax.jit(lambda key: build.initial(settings.model, key))(jax.random.key(3))
    frozen = jax.device_put(
        jax.jit(lambda base: quantize.coded(coded.definition, base))(base),
        jax.tree.map(lambda leaf: leaf.sharding, coded.frozen),
    )
    plain = program.make(dataclasses.replace(settings, quantization=config.Quantization()), mesh)
    exact = jax.device_put(decoded(coded.definition, frozen), jax.tree.map(lambda leaf: leaf.sharding, plain.frozen))
    before = jax.device_get(frozen)
    results = [learnt(made, given, mesh) for made, given in ((coded, frozen), (plain, exact))]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=2e-5), *results)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(frozen))


def learnt(made: program.Program, frozen: dict[str, Any], mesh: jax.sharding.Mesh) -> Any:
    state = made.initial({})
    tokens = np.random.default_rng(0).integers(0, 96, (8, 17)).astype(np.int32)
    ones, positions = np.ones((8, 16), np.int32), np.tile(np.arange(16, dtype=np.int32), (8, 1))
    batch = sharding.place((tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, positions), mesh)
    for index in range(3):
        state, output = made.update(state, frozen, batch, np.int32(index))
        assert bool(output.finite)
    assert any(np.any(leaf) for name, leaf in trees.named_leaves(state.parameters) if name.endswith("lora_b"))
    return jax.device_get(state.parameters)


def test_what_is_kept_in_few_bits_is_not_trained() -> None:
    settings = dataclasses.replace(
        config.Config(),
        model=MODEL,
        quantization=config.Quantization(mode="int8"),
        train=dataclasses.replace(config.Train(), trainable=("mlp/",)),
    )
    with pytest.raises(ConfigError, match=r"keeps blocks/mlp/down/codes, .* in few bits, which cannot be trained"):
        program.make(settings, sharding.make_mesh(config.Parallel()))
