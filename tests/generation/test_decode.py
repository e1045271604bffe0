"""Decoding beside transformers' `generate`, an argmax loop, and itself in other batches."""

import dataclasses
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models

from codex_jax.generation import decode, sampling, writing
from codex_jax.models import build


pytestmark = pytest.mark.model

MESH = jax.make_mesh(
    (1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,) * 3
)
LENGTHS = (9, 23, 1)


class Small:
    """A model of torch_models and what decodes with it."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.peer = torch_models.network(name)
        model = torch_models.settings_of(self.peer)
        self.definition = build.define(dataclasses.replace(model, compute_dtype=dtype))
        self.parameters = torch_models.parameters_of(self.peer, self.definition)
        self.decoding = decode.make(self.definition, MESH)
        self.weights = self.decoding.prepare(self.parameters)

    def write(self, prompts: list[list[int]], num_tokens: int, batch: int = 0, **how: Any) -> list[list[int]]:
        ends, chunk = how.pop("ends", ()), how.pop("chunk", num_tokens)
        choice = sampling.choice(self.definition.shape.vocab_size, **({"temperature": 0.0} | how))
        keys_B = jnp.resize(writing.keys(0, prompts), max(batch, len(prompts)))
        limits = writing.Limits(num_tokens, ends, chunk)
        given = (self.decoding, self.weights, choice, prompts, keys_B, limits)
        return writing.last(writing.write(*given, lambda row, tokens: False))


def prompts(vocabulary: int = 99) -> list[list[int]]:
    draw = np.random.default_rng(3)
    return [draw.integers(0, vocabulary, length).tolist() for length in LENGTHS]


# The others take the same way through other layers, and a minute.
USUAL = ("gpt2", "mistral", "qwen3")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in torch_models.CONFIGS]
)
def test_greedy_tokens_equal_transformers(torch_oracle: ModuleType, name: str) -> None:
    small = Small(name)
    expected = []
    for prompt in prompts():
        given = torch_oracle.tensor([prompt])
        with torch_oracle.no_grad():
            made = small.peer.generate(
                given, attention_mask=torch_oracle.ones_like(given), do_sample=False, max_new_tokens=32, pad_token_id=0
            )
        expected.append(made[0, len(prompt) :].tolist())
    assert small.write(prompts(), 32) == expected
