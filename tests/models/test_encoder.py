"""The BERT encoder beside transformers' torch models: padding, pairs of sentences, pooled rows and classes."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch_models

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, pretrained
from codex_jax.models.build import Definition


pytestmark = pytest.mark.model


def load(name: str, kind: str = "") -> tuple[Any, Definition, dict[str, Any]]:
    made = torch_models.network(name, kind)
    definition = build.define(torch_models.settings_of(made))
    return made, definition, torch_models.parameters_of(made, definition)


def draw(definition: Definition, shape: tuple[int, int], seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, definition.shape.vocab_size, shape).astype(np.int32)


def hidden(
    definition: Definition,
    parameters: dict[str, Any],
    tokens_BL: np.ndarray[Any, Any],
    segments_BL: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """Hidden states with positions that count the text of each row alone."""
    positions_BL = np.maximum(np.cumsum(segments_BL, axis=1) - 1, 0).astype(np.int32)
    return np.asarray(jax.jit(lambda p: definition.bind(p)(tokens_BL, segments_BL, positions_BL))(parameters))


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertModel"])
def test_rows_of_pairs_equal_torch(torch_oracle: ModuleType, kind: str) -> None:
    made, definition, parameters = load("bert", kind)
    tokens_BL = draw(definition, (3, 20))
    types_BL = np.broadcast_to(np.arange(20) >= 11, (3, 20)).astype(np.int32)
    with torch_oracle.no_grad():
        found = made(torch_oracle.from_numpy(tokens_BL).long(), token_type_ids=torch_oracle.from_numpy(types_BL).long())
    places_BL = np.broadcast_to(np.arange(20, dtype=np.int32), (3, 20))
    model = definition.bind(parameters)
    hidden_BLD = model(tokens_BL, np.ones_like(tokens_BL), places_BL, types_BL=types_BL)
    if kind == "BertModel":
        np.testing.assert_allclose(hidden_BLD, found.last_hidden_state.numpy(), atol=2e-4)
        np.testing.assert_allclose(model.pooled(hidden_BLD), found.pooler_output.numpy(), atol=2e-4)
    else:
        np.testing.assert_allclose(model.classes(hidden_BLD), found.logits.numpy(), atol=2e-4)


def test_padding_on_either_side_changes_nothing_of_the_text(torch_oracle: ModuleType) -> None:
    _, definition, parameters = load("bert")
    tokens_1L = draw(definition, (1, 9))
    expected_LD = hidden(definition, parameters, tokens_1L, np.ones_like(tokens_1L))[0]
    for left, right in ((0, 7), (7, 0), (3, 4)):
        padding = ((0, 0), (left, right))
        tokens_1M = np.pad(tokens_1L, padding, constant_values=5)
        segments_1M = np.pad(np.ones_like(tokens_1L), padding)
        found_LD = hidden(definition, parameters, tokens_1M, segments_1M)[0, left : left + 9]
        np.testing.assert_allclose(found_LD, expected_LD, atol=1e-5)


def test_documents_of_a_packed_row_do_not_see_each_other(torch_oracle: ModuleType) -> None:
    _, definition, parameters = load("bert")
    tokens_1L = draw(definition, (1, 12))
    segments_1L = np.array([[1] * 5 + [2] * 7], np.int32)
    positions_1L = np.array([[*range(5), *range(7)]], np.int32)
    found_LD = np.asarray(definition.bind(parameters)(tokens_1L, segments_1L, positions_1L))[0]
    alone_LD = hidden(definition, parameters, tokens_1L[:, 5:], np.ones((1, 7), np.int32))[0]
    np.testing.assert_allclose(found_LD[5:], alone_LD, atol=1e-5)


def test_a_token_sees_what_is_behind_it(torch_oracle: ModuleType) -> None:
    _, definition, parameters = load("bert")
    tokens_1L = draw(definition, (1, 8))
    other_1L = tokens_1L.copy()
    other_1L[0, -1] = (other_1L[0, -1] + 1) % 99
    ones_1L = np.ones_like(tokens_1L)
    first, second = (hidden(definition, parameters, row, ones_1L)[0, 0] for row in (tokens_1L, other_1L))
    assert np.abs(first - second).max() > 1e-3


def test_gradient_equals_torch(torch_oracle: ModuleType) -> None:
    made, definition, parameters = load("bert")
    tokens_BL = draw(definition, (2, 16))
    ones_BL = np.ones_like(tokens_BL)
    positions_BL = np.broadcast_to(np.arange(16, dtype=np.int32), (2, 16))

    def total(parameters: dict[str, Any]) -> jax.Array:
        model = definition.bind(parameters)
        hidden_BLD = model.before_head(model(tokens_BL, ones_BL, positions_BL))
        return jnp.sum(jnp.square(jnp.matmul(hidden_BLD, model.head().T, precision="highest")))

    slopes = jax.jit(jax.grad(total))(parameters)
    scores = made(torch_oracle.from_numpy(tokens_BL).long()).logits - made.cls.predictions.bias
    scores.square().sum().backward()
    for leaf, parameter in (
        (slopes["tokens"]["embedding"], made.bert.embeddings.word_embeddings.weight),
        (slopes["types"]["embedding"], made.bert.embeddings.token_type_embeddings.weight),
        (slopes["blocks"]["mlp_norm"]["scale"][0], made.bert.encoder.layer[0].output.LayerNorm.weight),
        (slopes["blocks"]["attention"]["query"]["kernel"][2].T, made.bert.encoder.layer[2].attention.self.query.weight),
    ):
        expected = parameter.grad.numpy()
        np.testing.assert_allclose(leaf, expected, atol=1e-4 * np.abs(expected).max())


def test_weights_of_another_ending_fill_what_both_have(torch_oracle: ModuleType, tmp_path: Path) -> None:
    torch_models.network("bert", "BertModel").save_pretrained(tmp_path)
    model = config.Model(weights=str(tmp_path), ending="hidden", compute_dtype="float32")
    definition = build.define(model)
    stored = build.as_stored(model, definition)
    assert (definition.shape.ending, stored.shape.ending) == ("hidden", "pooled")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    published = {leaf.partition("/")[0] for leaf in pretrained.leaves(stored)}
    common = {name: here for name in definition.abstract if name in published}
    places = {name: jax.tree.map(lambda _: here, definition.abstract[name]) for name in common}
    assert set(definition.abstract) - set(common) == {"transform", "transform_norm", "head_bias"}
    loaded = pretrained.load(tmp_path, stored, places)
    assert jax.tree.map(jnp.shape, loaded) == {
        name: jax.tree.map(lambda leaf: leaf.shape, definition.abstract[name]) for name in common
    }


def test_names_of_the_first_checkpoints_are_known(torch_oracle: ModuleType, tmp_path: Path) -> None:
    made, definition, parameters = load("bert")
    made.save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors | {"cls.seq_relationship.bias": np.zeros(2)}, tmp_path / "model.safetensors")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    loaded = pretrained.load(tmp_path, definition, jax.tree.map(lambda _: here, definition.abstract))
    assert jax.tree.all(jax.tree.map(lambda one, other: bool(jnp.all(one == other)), loaded, parameters))


def settings_with(**sections: dict[str, Any]) -> config.Config:
    nested = config.default().to_dict()
    for section, values in sections.items():
        nested[section] |= values
    return config.resolve(nested)


@pytest.mark.parametrize(
    ("model", "objective", "said"),
    [
        ({"name": "all-minilm-l6-v2", "ending": "hidden"}, "causal", "trained by data.objective=masked"),
        ({"name": "all-minilm-l6-v2"}, "masked", "with model.ending=hidden it gets a head"),
        ({"name": "gpt2"}, "masked", "trained by data.objective=causal"),
        ({"name": "gpt2", "ending": "hidden"}, "causal", "gpt2 has no such ending"),
    ],
)
def test_what_is_not_trained_so_is_refused(model: dict[str, Any], objective: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build.decided(settings_with(model=model, data={"objective": objective, "sequence_length": 64}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["BertForTokenClassification"]}, "architectures"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"hidden_size": 50}, "a multiple of num_attention_heads"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(changes: dict[str, Any], said: str) -> None:
    values = {"model_type": "bert", **torch_models.CONFIGS["bert"][1], **changes}
    with pytest.raises(AssetError, match=said):
        build.define(config.Model(architecture=json.dumps(values)))
