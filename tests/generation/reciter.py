"""A model that recites: its weights are written by hand so that at each position it gives a certain byte of a text."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codex_jax import config, schema
from codex_jax.generation import text
from codex_jax.generation.text import Voice
from codex_jax.models import build
from codex_jax.safety import gate
from codex_jax.tokenizers.kinds import KINDS
from codex_jax.tokenizers.tokenizer import Tokenizer


CONTEXT = 1024
MESH = jax.make_mesh(
    (1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,) * 3
)


def bytes_tokenizer() -> Tokenizer:
    make = KINDS.get("byte").make
    assert make is not None
    return make()


def reciter(words: str, **safety: Any) -> Voice:
    """Return a model that continues any beginning of `words` to their end, a byte a token, and then ends."""
    tokenizer = bytes_tokenizer()
    assert tokenizer.eos_id is not None
    values = {
        "model_type": "gpt2",
        "vocab_size": tokenizer.vocab_size,
        "n_positions": CONTEXT,
        "n_embd": CONTEXT,
        "n_layer": 1,
        "n_head": 1,
        "n_inner": 8,
        "tie_word_embeddings": False,
    }
    model = config.Model(architecture=json.dumps(values), compute_dtype="float32", attention="xla")
    definition = build.define(model)
    parameters = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), definition.abstract)
    parameters["positions"]["embedding"] = jnp.eye(CONTEXT)
    parameters["norm"]["scale"] = jnp.ones(CONTEXT)
    following = [*tokenizer.encode([words])[0].tolist()[1:], tokenizer.eos_id]
    head_VD = np.zeros((tokenizer.vocab_size, CONTEXT), np.float32)
    head_VD[following, np.arange(len(following))] = 1.0
    parameters["lm_head"]["embedding"] = jnp.asarray(head_VD)
    settings = schema.build(config.Safety, {**config.to_dict(config.Config())["safety"], **safety})
    options = config.Generate(temperature=0.0, num_tokens=len(following))
    return text.open_voice(definition, MESH, parameters, tokenizer, gate.of(settings), options)
