"""Texts to classes: how likely an encoder that was trained for it finds each class of a text.

    classify = classifying.load("ham-or-spam")
    classify(["win a prize"])  # [{"ham": 0.03, "spam": 0.97}]

n texts · B texts of a batch · L tokens · C classes
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.encoders import reading
from codex_jax.encoders.reading import Encoding, Reading
from codex_jax.errors import ConfigError
from codex_jax.models import build, classes
from codex_jax.models.build import Definition
from codex_jax.models.published import Published
from codex_jax.safety.gate import Verdict, refuse_blocked
from codex_jax.tokenizers.tokenizer import Tokenizer


class Classifier:
    """A model with a head for classes and their names."""

    def __init__(self, encoding: Encoding, place: str) -> None:
        """ConfigError when it tells no classes apart, and as in `Reading`; `place` is where it is from, for messages.

        AssetError when a text may be of several classes.
        """
        if encoding.definition.shape.ending != "classes":
            raise ConfigError(f"{place} ends in {encoding.definition.shape.ending}, and has no head for classes")
        self.labels = classes.exclusive(Published(encoding.definition.published, place))
        self._read = Reading(encoding, probabilities, "classes")

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> list[dict[str, float]]:
        """Return of each text how likely each class is, by its name."""
        found_nC = self._read(texts, batch_size=batch_size)
        return [dict(zip(self.labels, row_C.tolist(), strict=True)) for row_C in found_nC]


def probabilities(
    definition: Definition, parameters: dict[str, Any], tokens_BL: jax.Array, mask_BL: jax.Array
) -> jax.Array:
    """Return how likely each class is, (B, C) float32; rows begin with their text, where the int32 mask is 1."""
    model = definition.bind(parameters)
    logits_BC: jax.Array = model.classes(reading.hidden(model, tokens_BL, mask_BL))
    return jax.nn.softmax(logits_BC, axis=-1)


def load(directory: str | Path, *, max_length: int = 0, compute_dtype: str = "float32") -> Classifier:
    """Return the classifier in a directory of Hugging Face's form; arguments and errors are those of `reading.load`."""
    encoding = reading.load(directory, build.define, max_length=max_length, compute_dtype=compute_dtype)
    return Classifier(encoding, str(directory))


def likeliest(found: dict[str, float]) -> str:
    """Return the class that is the likeliest."""
    return max(found, key=found.__getitem__)


def make(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    tokenizer: Tokenizer,
    asked: Verdict,
    opening: Sequence[int],
) -> Callable[[dict[str, Any], jax.Array, Callable[[], None]], str]:
    """Return `say(parameters, key, between) -> text`: the class of the prompt asked for, and how likely it is.

    Neither the key nor `between` is used. Without a prompt it is `opening`, a few tokens of the data. ConfigError for a
    blocked one.
    """
    refuse_blocked(asked, "generate.prompt")
    frame = (tokenizer.bos_id, tokenizer.eos_id)
    text = asked.text or tokenizer.decode([index for index in opening if index not in frame])
    room = settings.model.context_length - 2
    ids = [tokenizer.bos_id, *tokenizer.encode([text])[0][:room].tolist(), tokenizer.eos_id]
    tokens_1L = np.array([ids + [0] * (len(ids) % 2)], np.int32)  # fused kernels take even lengths only
    mask_1L = (np.arange(tokens_1L.size) < len(ids)).astype(np.int32)[None]

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def run(parameters: dict[str, Any]) -> jax.Array:
        return probabilities(definition, parameters, jnp.asarray(tokens_1L), jnp.asarray(mask_1L))

    def say(parameters: dict[str, Any], key: jax.Array, between: Callable[[], None]) -> str:
        found = dict(zip(settings.data.labels, jax.device_get(run(parameters))[0].tolist(), strict=True))
        best = likeliest(found)
        return f"{best} ({100 * found[best]:.0f}%): {text}"

    return say
