"""Texts through an encoder, whatever is made of what it reads: framed, cut, in batches alike in length.

n texts · B texts of a batch · L tokens · D model · W numbers of each text
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import pretrained
from codex_jax.models.build import Definition
from codex_jax.tokenizers import beside, loading
from codex_jax.tokenizers.tokenizer import Tokenizer


# Batches are as long as a multiple of it: so many lengths are compiled at most.
_LENGTHS = 32


class Encoding(NamedTuple):
    """A model, its parameters and its tokenizer."""

    definition: Definition
    parameters: dict[str, Any]
    tokenizer: Tokenizer
    max_length: int = 0
    """where texts are cut, in tokens, those around them included; 0: at what the model can read"""


class Reading:
    """Something that is made of each text by an encoder; compiles once for each length of a batch."""

    def __init__(self, encoding: Encoding, make: Callable[..., jax.Array], use: str) -> None:
        """`make(definition, parameters, tokens_BL, mask_BL)` gives (B, W) float32; `use` says what, in messages.

        ConfigError when it is no encoder, cannot read so much, or the tokenizer is of another model.
        """
        definition, self._parameters, self._tokenizer, max_length = encoding
        shape, tokenizer = definition.shape, encoding.tokenizer
        if not definition.family.endings:
            raise ConfigError(f"a model of family {definition.family.name} reads forwards: {use} are of encoders")
        if tokenizer.vocab_size > shape.vocab_size:
            raise ConfigError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {shape.vocab_size}")
        self.max_length = max_length or shape.context_length
        self._before, self._behind = ([] if one is None else [one] for one in (tokenizer.bos_id, tokenizer.eos_id))
        if not len(self._before + self._behind) < self.max_length <= shape.context_length:
            raise ConfigError(f"max_length={self.max_length}: the model reads up to {shape.context_length} tokens")
        self._run = jax.jit(functools.partial(make, definition))

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> np.ndarray[Any, Any]:
        """Return what is made of each text, (n, W) float32.

        It does not depend on the texts beside it, but for the last digit.
        """
        rows = [self._framed(ids) for ids in self._tokenizer.encode(list(texts))]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))  # alike in length: little is filled up
        found: dict[int, np.ndarray[Any, Any]] = {}
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            made_BW = self._run(self._parameters, *self._padded([rows[index] for index in some], batch_size))
            found.update(zip(some, np.asarray(made_BW), strict=False))  # rows of padding come last
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


def hidden(model: Any, tokens_BL: jax.Array, mask_BL: jax.Array) -> jax.Array:
    """Return hidden_BLD of texts where the int32 mask is 1.

    Padding may be on either side: positions count what is not padding.
    """
    positions_BL = jnp.maximum(jnp.cumsum(mask_BL, axis=1) - 1, 0)
    states_BLD: jax.Array = model(tokens_BL, mask_BL, positions_BL)
    return states_BLD


def load(
    directory: str | Path,
    define: Callable[[config.Model], Definition],
    *,
    max_length: int = 0,
    compute_dtype: str = "float32",
) -> Encoding:
    """Return the encoder in a directory of Hugging Face's form, as `define` has it, with the tokenizer that lies there.

    `max_length` 0 is what sentence_bert_config.json says, where there is one, else what the model can read. Raises
    AssetError for files that are missing, damaged or of something else.
    """
    directory = Path(directory).expanduser()
    definition = define(config.Model(weights=str(directory), compute_dtype=compute_dtype))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    parameters = pretrained.load(directory, definition, jax.tree.map(lambda _: here, definition.abstract))
    return Encoding(definition, parameters, loading.load(directory), max_length or limit(directory))


def limit(directory: Path) -> int:
    """Return the tokens at which texts are cut, 0 where no file says it."""
    file = directory / "sentence_bert_config.json"
    found = beside.read(file).get("max_seq_length") or 0
    if type(found) is not int or found < 0:
        raise AssetError(f"{file} has max_seq_length={found!r:.40}; it must be a whole number of tokens")
    return found
