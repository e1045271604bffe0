"""Every family against transformers' torch model of the same config.json and weights."""

import json
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models

from codex_jax import config
from codex_jax.models import build


pytestmark = pytest.mark.model


@pytest.mark.parametrize("name", list(torch_models.CONFIGS))
def test_logits_equal_torch(torch_oracle: ModuleType, name: str) -> None:
    made = torch_models.network(name)
    definition = build.define(torch_models.settings_of(made))
    parameters = torch_models.parameters_of(made, definition)
    assert jax.tree.map(jnp.shape, parameters) == jax.tree.map(lambda leaf: leaf.shape, definition.abstract)
    tokens_BL = np.random.default_rng(1).integers(0, definition.shape.vocab_size, (2, 40)).astype(np.int32)
    with torch_oracle.no_grad():
        expected_BLV = made(torch_oracle.from_numpy(tokens_BL).long()).logits.numpy()
    np.testing.assert_allclose(logits(definition, parameters, tokens_BL), expected_BLV, atol=2e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama-odd", "mistral", "gemma3", "bert"])
def test_padding_on_the_left_changes_no_logits(name: str) -> None:
    family, changes = torch_models.CONFIGS[name]
    text = json.dumps({"model_type": family, **changes})
    settings = config.Model(architecture=text, compute_dtype="float32", attention="xla")
    definition = build.define(settings)
    parameters = jax.jit(lambda: build.initial(settings, jax.random.key(0)))()
    tokens_BL = np.random.default_rng(2).integers(0, 99, (3, 21)).astype(np.int32)
    lengths = (21, 13, 1)
    segments_BL = (np.arange(21)[None] >= 21 - np.array(lengths)[:, None]).astype(np.int32)
    found_BLV = logits(definition, parameters, tokens_BL, segments_BL)
    for row, length in enumerate(lengths):
        alone_1LV = logits(definition, parameters, tokens_BL[row : row + 1, 21 - length :])
        np.testing.assert_allclose(found_BLV[row, 21 - length :], alone_1LV[0], atol=2e-5)


def logits(
    definition: build.Definition,
    parameters: Any,
    tokens_BL: np.ndarray[Any, Any],
    segments_BL: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """Return the logits of rows that are filled, or begin where their segment does."""
    segments_BL = np.ones_like(tokens_BL) if segments_BL is None else segments_BL
    positions_BL = np.maximum(np.cumsum(segments_BL, axis=1, dtype=np.int32) - 1, 0)

    @jax.jit
    def run(parameters: Any) -> jax.Array:
        model = definition.bind(parameters)
        hidden_BLD = model(tokens_BL, segments_BL, positions_BL)
        if definition.shape.objective == "causal":
            return jnp.matmul(hidden_BLD, model.head().T, precision="highest")
        scores_BLV = jnp.matmul(model.before_head(hidden_BLD), model.head().T, precision="highest")
        return scores_BLV + model.head_bias.bias[...][None, None]

    return np.asarray(run(parameters))
