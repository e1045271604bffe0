"""What a run of an encoder shows: a prompt with its masks filled in by the likeliest tokens."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from codex_jax import config, sharding
from codex_jax.encoders import filling
from codex_jax.errors import ConfigError
from codex_jax.models import build
from codex_jax.safety import gate
from codex_jax.tokenizers import training


pytestmark = pytest.mark.model

TOKENIZER = training.train(["the model reads what is hidden in a text"] * 9, 60, kind="wordpiece")
GUESSED = TOKENIZER.encode(["the"])[0][0]
MODEL = config.Model(
    name="all-minilm-l6-v2", ending="hidden", num_layers=2, num_heads=2, width=16, mlp_width=32, vocab_size=64,
    context_length=16, compute_dtype="float32", attention="xla",
)  # fmt: skip


def fill(prompt: str, opening: tuple[int, ...] = ()) -> str:
    """The prompt, filled in by a model whose bias likes one token, and some that the tokenizer does not have."""
    settings = dataclasses.replace(config.Config(), model=MODEL)
    definition = build.define(settings.model)
    parameters: dict[str, Any] = jax.jit(lambda: build.initial(settings.model, jax.random.key(0)))()
    parameters["head_bias"]["bias"] = jnp.zeros(64).at[GUESSED].set(50.0).at[TOKENIZER.vocab_size :].set(99.0)
    mesh = sharding.make_mesh(settings.parallel)
    asked = gate.of(settings.safety).examine(prompt, "prompt")
    return filling.make(settings, definition, mesh, TOKENIZER, asked, opening)(
        parameters, jax.random.key(1), lambda: None
    )


def test_each_mask_becomes_the_likeliest_token_and_the_frame_is_not_shown() -> None:
    assert fill("what [MASK] reads [MASK]") == "what the reads the"


def test_without_a_prompt_a_token_of_the_data_is_hidden() -> None:
    text = TOKENIZER.encode(["model is text"])[0].tolist()
    assert fill("", (TOKENIZER.bos_id or 0, *text)).count("the") == 1


@pytest.mark.parametrize("prompt", ["what is hidden", "[MASK]" + " hidden" * 16])
def test_a_prompt_without_a_mask_or_too_long_is_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match="an encoder fills in"):
        fill(prompt)
