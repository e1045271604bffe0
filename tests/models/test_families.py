"""Every family against transformers' torch model of the same config.json and weights."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models

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


def logits(definition: build.Definition, parameters: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    positions_BL = np.broadcast_to(np.arange(tokens_BL.shape[1], dtype=np.int32), tokens_BL.shape)

    @jax.jit
    def run(parameters: Any) -> jax.Array:
        model = definition.bind(parameters)
        hidden_BLD = model(tokens_BL, np.ones_like(tokens_BL), positions_BL)
        if definition.shape.objective == "causal":
            return jnp.matmul(hidden_BLD, model.head().T, precision="highest")
        scores_BLV = jnp.matmul(model.before_head(hidden_BLD), model.head().T, precision="highest")
        return scores_BLV + model.head_bias.bias[...][None, None]

    return np.asarray(run(parameters))
