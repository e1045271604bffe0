"""Weights that transformers wrote, read here: equal logits, whatever the files look like."""

from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import test_families
import torch_models
import written

from codex_jax.models import build, pretrained


pytestmark = pytest.mark.model


def loaded(directory: Path) -> tuple[build.Definition, dict[str, Any]]:
    definition = build.define(written.settings(directory))
    return definition, pretrained.load(directory, definition, written.on_one_device(definition))


def logits_of_torch(made: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        found: np.ndarray[Any, Any] = made(torch.from_numpy(tokens_BL).long()).logits.float().numpy()
    return found


def some_tokens(definition: build.Definition) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, definition.shape.vocab_size, (2, 40)).astype(np.int32)


@pytest.mark.parametrize("name", list(torch_models.CONFIGS))
def test_a_directory_of_transformers_gives_the_same_logits(torch_oracle: ModuleType, tmp_path: Path, name: str) -> None:
    made = written.network(name)
    definition, parameters = loaded(written.write(made, tmp_path))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), parameters) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), definition.abstract
    )
    tokens_BL = some_tokens(definition)
    expected_BLV = logits_of_torch(made, tokens_BL)
    np.testing.assert_allclose(test_families.logits(definition, parameters, tokens_BL), expected_BLV, atol=2e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "qwen2", "gemma3"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shards_of_half_precision_give_the_values_they_hold(
    torch_oracle: ModuleType, tmp_path: Path, name: str, dtype: str
) -> None:
    made = written.network(name).to(getattr(torch_oracle, dtype))
    written.write(made, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    definition, parameters = loaded(tmp_path)
    expected = torch_models.parameters_of(made.float(), definition)
    jax.tree.map(np.testing.assert_array_equal, parameters, expected)
