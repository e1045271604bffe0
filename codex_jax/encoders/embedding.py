"""Texts to vectors whose products say how alike they are: the mean of an encoder's hidden states, of length 1.

    embed = embedding.load("all-MiniLM-L6-v2")
    vectors = embed(["a cat", "a kitten"])  # (2, 384) float32

B texts of a batch · L tokens · D model
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from codex_jax.encoders import reading
from codex_jax.encoders.reading import Encoding, Reading
from codex_jax.models import build
from codex_jax.models.build import Definition
from codex_jax.tokenizers.tokenizer import Tokenizer


class Embedder(Reading):
    """Gives the vector of each text, (n, D) float32 of length 1."""

    def __init__(
        self, definition: Definition, parameters: dict[str, Any], tokenizer: Tokenizer, max_length: int = 0
    ) -> None:
        """Take what `Encoding` holds; errors are those of `Reading`."""
        super().__init__(Encoding(definition, parameters, tokenizer, max_length), mean_pooled, "embeddings")


def mean_pooled(
    definition: Definition, parameters: dict[str, Any], tokens_BL: jax.Array, mask_BL: jax.Array
) -> jax.Array:
    """Return the normalised mean of the hidden states where the int32 mask is 1, (B, D) float32.

    A row of padding alone has no direction: zeros.
    """
    hidden_BLD = reading.hidden(definition.bind(parameters), tokens_BL, mask_BL)
    sums_BD = jnp.sum(hidden_BLD * mask_BL[..., None], axis=1)
    return sums_BD / jnp.maximum(jnp.linalg.norm(sums_BD, axis=1, keepdims=True), 1e-12)


def load(directory: str | Path, *, max_length: int = 0, compute_dtype: str = "float32") -> Embedder:
    """Return the encoder in a directory of Hugging Face's form; arguments and errors are those of `reading.load`."""
    encoding = reading.load(directory, build.without_ending, max_length=max_length, compute_dtype=compute_dtype)
    return Embedder(*encoding)
