"""GPT-2 against transformers' torch model, against numbers it once computed, and against what a decoder must be."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import gpt2_weights
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from codex_jax import config, trees
from codex_jax.models import build
from codex_jax.training import losses


pytestmark = pytest.mark.model

GOLDEN = Path(__file__).parents[1] / "golden" / "gpt2_torch.json"


def whole_rows(tokens_BL: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    positions_L = np.arange(tokens_BL.shape[1], dtype=np.int32)
    return np.ones_like(tokens_BL), np.broadcast_to(positions_L, tokens_BL.shape)


def logits_of(model: config.Model, parameters: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    definition = build.define(model)

    @jax.jit
    def run(parameters: Any) -> jax.Array:
        bound = definition.bind(parameters)
        hidden_BLD = bound(tokens_BL, *whole_rows(tokens_BL))
        return jnp.matmul(hidden_BLD, bound.head().T, precision="highest")  # not cut to TF32 on a GPU

    return np.asarray(run(parameters))


def loss_and_norm(model: config.Model, parameters: Any, tokens_BL: np.ndarray[Any, Any]) -> tuple[float, float]:
    definition = build.define(model)
    inputs_BL, targets_BL = tokens_BL[:, :-1], tokens_BL[:, 1:]

    @jax.jit
    def run(parameters: Any) -> tuple[jax.Array, jax.Array]:
        def loss(parameters: Any) -> jax.Array:
            bound = definition.bind(parameters)
            hidden_BLD = bound(inputs_BL, *whole_rows(inputs_BL))
            weights_BL = np.ones(targets_BL.shape, np.float32)
            sums = losses.of_tokens(
                hidden_BLD, losses.Head(bound.head()), targets_BL, weights_BL, chunk=33, dtype=jnp.dtype("float32")
            )
            return sums.loss / sums.weight

        value, gradient = jax.value_and_grad(loss)(parameters)
        return value, optax.tree.norm(gradient)

    value, norm = run(parameters)
    return float(value), float(norm)


def test_numbers_equal_those_torch_computed() -> None:
    golden = json.loads(GOLDEN.read_text())
    model = gpt2_weights.SMALL
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    tokens_BL = gpt2_weights.tokens(model, 2, 41, seed=2)
    loss, norm = loss_and_norm(model, parameters, tokens_BL)
    assert loss == pytest.approx(golden["loss"], rel=1e-5)
    assert norm == pytest.approx(golden["grad_norm"], rel=1e-4)
    logits_BLV = logits_of(model, parameters, tokens_BL[:, :-1])
    np.testing.assert_allclose(logits_BLV[0, -1], golden["logits_row0_last"], atol=2e-5)


@pytest.mark.parametrize("size", ["small", pytest.param("124m", marks=pytest.mark.slow)])
def test_numbers_equal_torch_side_by_side(torch_oracle: ModuleType, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(GOLDEN.parent)
    import make_gpt2_torch

    published = dataclasses.replace(build.decided(config.Config()).model, compute_dtype="float32")
    model = gpt2_weights.SMALL if size == "small" else published
    expected_loss, expected_norm, expected_logits = make_gpt2_torch.compute(model, rows=2, length=40)
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    tokens_BL = gpt2_weights.tokens(model, 2, 41, seed=2)
    np.testing.assert_allclose(logits_of(model, parameters, tokens_BL[:, :-1]), expected_logits, atol=2e-4)
    loss, norm = loss_and_norm(model, parameters, tokens_BL)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert norm == pytest.approx(expected_norm, rel=1e-4)
    if size == "small":
        golden = json.loads(GOLDEN.read_text())
        assert (golden["loss"], golden["grad_norm"]) == pytest.approx((expected_loss, expected_norm), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "published"),
    [("124m", 124_439_808), ("355m", 354_823_168), ("774m", 774_030_080), ("1558m", 1_557_611_200)],
)
def test_number_of_parameters_is_the_published_one(load_config: Any, size: str, published: int) -> None:
    settings: config.Config = config.resolve(load_config("gpt2").get_config(size).to_dict())
    assert trees.num_parameters(build.define(settings.model).abstract) == published


def test_initial_weights_have_the_deviations_of_the_paper() -> None:
    model = dataclasses.replace(gpt2_weights.SMALL, width=64, num_layers=8, vocab_size=500)
    parameters = jax.jit(lambda key: build.initial(model, key))(jax.random.key(0))
    deviation = {name: float(jnp.std(leaf)) for name, leaf in trees.named_leaves(parameters)}
    assert deviation["tokens/embedding"] == pytest.approx(0.02, rel=0.05)
    assert deviation["positions/embedding"] == pytest.approx(0.01, rel=0.05)
    assert deviation["blocks/mlp/up/kernel"] == pytest.approx(0.02, rel=0.05)
    assert deviation["blocks/mlp/down/kernel"] == pytest.approx(0.02 / 4, rel=0.05)  # sqrt(2 x 8 layers) = 4
    assert deviation["blocks/attention/out/kernel"] == pytest.approx(0.02 / 4, rel=0.05)
    layers = parameters["blocks"]["mlp"]["up"]["kernel"]
    assert not np.array_equal(layers[0], layers[1])


def test_prediction_does_not_depend_on_later_tokens() -> None:
    model = gpt2_weights.SMALL
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    tokens_1L = gpt2_weights.tokens(model, 1, 12, seed=3)
    changed_1L = tokens_1L.copy()
    changed_1L[0, 7:] = (changed_1L[0, 7:] + 1) % model.vocab_size
    before, after = logits_of(model, parameters, tokens_1L)[0], logits_of(model, parameters, changed_1L)[0]
    np.testing.assert_array_equal(before[:7], after[:7])
    assert np.abs(before[7:] - after[7:]).max() > 1e-4


def test_packed_documents_give_the_logits_they_give_alone() -> None:
    model = gpt2_weights.SMALL
    definition = build.define(model)
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    first, second = gpt2_weights.tokens(model, 1, 9, seed=4), gpt2_weights.tokens(model, 1, 14, seed=5)
    packed_1L = np.concatenate([first, second], axis=1)
    segments_1L = np.repeat(np.array([[1, 2]], np.int32), [9, 14], axis=1)
    positions_1L = np.concatenate([np.arange(9), np.arange(14)])[None].astype(np.int32)
    bound = definition.bind(parameters)
    together = np.asarray(bound(packed_1L, segments_1L, positions_1L))
    np.testing.assert_allclose(together[:, :9], bound(first, *whole_rows(first)), atol=1e-5)
    np.testing.assert_allclose(together[:, 9:], bound(second, *whole_rows(second)), atol=1e-5)


@pytest.mark.parametrize("changes", [{"remat": True}, {"scan_unroll": 3}, {"remat": True, "scan_unroll": 3}])
def test_options_of_the_compiler_do_not_change_the_gradient(changes: dict[str, Any]) -> None:
    model = gpt2_weights.SMALL
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    tokens_BL = gpt2_weights.tokens(model, 2, 21, seed=2)
    plain = loss_and_norm(model, parameters, tokens_BL)
    assert loss_and_norm(dataclasses.replace(model, **changes), parameters, tokens_BL) == pytest.approx(plain, rel=1e-5)


def test_dropout_acts_with_a_key_only_and_follows_it() -> None:
    model = dataclasses.replace(gpt2_weights.SMALL, dropout=0.3)
    bound = build.define(model).bind(gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model))
    tokens_BL = gpt2_weights.tokens(model, 2, 16, seed=2)
    inputs = (tokens_BL, *whole_rows(tokens_BL))
    without = np.asarray(bound(*inputs))
    once, again, other = (np.asarray(bound(*inputs, jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - without).max() > 1e-2
    assert np.abs(once - other).max() > 1e-2


def test_bfloat16_products_stay_close_and_are_not_float32() -> None:
    model = gpt2_weights.SMALL
    parameters = gpt2_weights.ours(gpt2_weights.published_names(model, seed=1), model)
    tokens_BL = gpt2_weights.tokens(model, 2, 21, seed=2)
    exact = loss_and_norm(model, parameters, tokens_BL)
    rounded = loss_and_norm(dataclasses.replace(model, compute_dtype="bfloat16"), parameters, tokens_BL)
    assert rounded == pytest.approx(exact, rel=1e-2)
    assert rounded != exact


def test_unknown_architecture_is_named_with_those_there_are() -> None:
    with pytest.raises(config.ConfigError, match=r"gpt3.*gpt2"):
        build.define(dataclasses.replace(gpt2_weights.SMALL, name="gpt3"))


def test_config_file_is_a_config_dict(load_config: Any) -> None:
    assert isinstance(load_config("gpt2").get_config("tiny"), ConfigDict)
