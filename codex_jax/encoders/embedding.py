"""Texts to vectors whose products say how alike they are: the mean of an encoder's hidden states, of length 1.

    embed = embedding.load("all-MiniLM-L6-v2")
    vectors = embed(["a cat", "a kitten"])  # (2, 384) float32

n texts · B texts of a batch · L tokens · D model
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, pretrained
from codex_jax.models.build import Definition
from codex_jax.tokenizers import beside, loading
from codex_jax.tokenizers.tokenizer import Tokenizer


# Batches are as long as a multiple of it: so many lengths are compiled at most.
_LENGTHS = 32


class Embedder:
    """A model, its parameters and its tokenizer; compiles once for each length of a batch."""

    def __init__(
        self, definition: Definition, parameters: dict[str, Any], tokenizer: Tokenizer, max_length: int = 0
    ) -> None:
        """Cut texts at `max_length` tokens, those around them included; 0: what the model can read.

        ConfigError when it is no encoder, cannot read so much, or the tokenizer is of another model.
        """
        shape = definition.shape
        if definition.family.objective != "masked":
            raise ConfigError(f"a model of family {definition.family.name} reads forwards: embeddings are of encoders")
        if tokenizer.vocab_size > shape.vocab_size:
            raise ConfigError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {shape.vocab_size}")
        self.max_length = max_length or shape.context_length
        self._before, self._behind = ([] if one is None else [one] for one in (tokenizer.bos_id, tokenizer.eos_id))
        if not len(self._before + self._behind) < self.max_length <= shape.context_length:
            raise ConfigError(f"max_length={self.max_length}: the model reads up to {shape.context_length} tokens")
        self._parameters, self._tokenizer = parameters, tokenizer
        self._run = jax.jit(functools.partial(mean_pooled, definition))

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> np.ndarray[Any, Any]:
        """Return the vector of each text, (n, D) float32 of length 1.

        A vector does not depend on the texts beside it, but for the last digit.
        """
        rows = [self._framed(ids) for ids in self._tokenizer.encode(list(texts))]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))  # alike in length: little is filled up
        found: dict[int, np.ndarray[Any, Any]] = {}
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            vectors_BD = self._run(self._parameters, *self._padded([rows[index] for index in some], batch_size))
            found.update(zip(some, np.asarray(vectors_BD), strict=False))  # rows of padding come last
        width = jax.eval_shape(self._run, self._parameters, *self._padded([], batch_size)).shape[1]
        return np.stack([found[index] for index in range(len(rows))]) if rows else np.zeros((0, width), np.float32)

    def _framed(self, ids: np.ndarray[Any, Any]) -> list[int]:
        room = self.max_length - len(self._before + self._behind)
        return [*self._before, *ids[:room].tolist(), *self._behind]

    def _padded(self, rows: Sequence[list[int]], batch_size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        longest = max(map(len, rows), default=1)
        length = min(-(-longest // _LENGTHS) * _LENGTHS, self.max_length)
        tokens_BL, mask_BL = np.zeros((2, batch_size, length), np.int32)
        for row, ids in enumerate(rows):
            tokens_BL[row, : len(ids)], mask_BL[row, : len(ids)] = ids, 1
        return tokens_BL, mask_BL


def mean_pooled(
    definition: Definition, parameters: dict[str, Any], tokens_BL: jax.Array, mask_BL: jax.Array
) -> jax.Array:
    """Return the normalised mean of the hidden states where the int32 mask is 1, (B, D) float32.

    Padding may be on either side: positions count what is not padding. A row of padding alone has no direction: zeros.
    """
    positions_BL = jnp.maximum(jnp.cumsum(mask_BL, axis=1) - 1, 0)
    hidden_BLD = definition.bind(parameters)(tokens_BL, mask_BL, positions_BL)
    sums_BD = jnp.sum(hidden_BLD * mask_BL[..., None], axis=1)
    return sums_BD / jnp.maximum(jnp.linalg.norm(sums_BD, axis=1, keepdims=True), 1e-12)


def load(directory: str | Path, *, max_length: int = 0, compute_dtype: str = "float32") -> Embedder:
    """Return the encoder in a directory of Hugging Face's form, with the tokenizer that lies there.

    `max_length` 0 is what sentence_bert_config.json says, where there is one, else what the model can read. Raises
    AssetError for files that are missing, damaged or of something else.
    """
    directory = Path(directory).expanduser()
    definition = build.without_ending(config.Model(weights=str(directory), compute_dtype=compute_dtype))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    parameters = pretrained.load(directory, definition, jax.tree.map(lambda _: here, definition.abstract))
    return Embedder(definition, parameters, loading.load(directory), max_length or _limit(directory))


def _limit(directory: Path) -> int:
    """Return the tokens at which texts are cut, 0 where no file says it."""
    file = directory / "sentence_bert_config.json"
    found = beside.read(file).get("max_seq_length") or 0
    if type(found) is not int or found < 0:
        raise AssetError(f"{file} has max_seq_length={found!r:.40}; it must be a whole number of tokens")
    return found
