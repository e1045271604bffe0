"""Small models of transformers with random weights, in torch, and their weights as the parameters of ours."""

import dataclasses
import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax import config
from codex_jax.models import build


_LLAMA = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_BERT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 16}
# By a name for each: the family, and what differs from the defaults of transformers.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"vocab_size": 99, "n_positions": 64, "n_embd": 36, "n_layer": 3, "n_head": 3}),
    "gpt2-inner": (
        "gpt2",
        {"vocab_size": 99, "n_positions": 64, "n_embd": 36, "n_layer": 2, "n_head": 4, "n_inner": 50},
    ),
    "llama": ("llama", _LLAMA),
    "llama-tied": ("llama", _LLAMA | {"tie_word_embeddings": True}),
    "llama-bias": ("llama", _LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "llama-odd": (
        "llama",
        _LLAMA | {"head_dim": 10, "hidden_size": 44, "intermediate_size": 37, "num_key_value_heads": 1},
    ),
    "llama3-rope": (
        "llama",
        _LLAMA
        | {
            "rope_parameters": _ROPE
            | {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        },
    ),
    "llama-linear-rope": ("llama", _LLAMA | {"rope_parameters": _ROPE | {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("mistral", _LLAMA | {"sliding_window": 7}),
    "mistral-whole": ("mistral", _LLAMA | {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("qwen2", _LLAMA | {"tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", _LLAMA | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2-yarn": ("qwen2", _LLAMA | {"rope_parameters": _ROPE | {"rope_type": "yarn", "factor": 4.0}}),
    "qwen3": ("qwen3", _LLAMA | {"head_dim": 16}),
    "gemma3": (
        "gemma3_text",
        _LLAMA | {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 20, "num_hidden_layers": 7},
    ),
    "bert": ("bert", _BERT),
    "bert-untied": ("bert", _BERT | {"tie_word_embeddings": False, "hidden_act": "gelu_new", "type_vocab_size": 3}),
    "bert-odd": ("bert", _BERT | {"hidden_size": 45, "num_attention_heads": 3, "intermediate_size": 37}),
}
# What sets these apart is not in a file of weights, but in what is computed with them.
_SAME_FILES = ("llama3-rope", "llama-linear-rope", "mistral-whole", "qwen2-window", "qwen2-yarn")
# For tests of files: the others say the same, and are slow.
FILES = [pytest.param(name, marks=pytest.mark.slow if name in _SAME_FILES else ()) for name in CONFIGS]


def network(name: str, kind: str = "", **changes: Any) -> Any:
    """Return one of them in torch, float32, every weight random, norms and biases too.

    `kind` is a class of transformers; without it, the one whose logits are of tokens. `changes` are of its config.
    """
    import torch
    import transformers

    family, own = CONFIGS[name]
    settings = transformers.AutoConfig.for_model(family, **own, **changes)
    for field in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(settings, field, None)
    settings._attn_implementation = "eager"
    torch.manual_seed(0)
    kind = kind or ("AutoModelForMaskedLM" if family == "bert" else "AutoModelForCausalLM")
    make = getattr(transformers, kind)
    made = (make.from_config if kind.startswith("Auto") else make)(settings).float().eval()
    settings.architectures = [type(made).__name__]  # as save_pretrained does
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.08 * torch.randn_like(parameter) + (0.3 if parameter.ndim == 1 else 0.0))
    return made


def settings_of(made: Any) -> config.Model:
    """Return the settings of the same architecture here."""
    return dataclasses.replace(
        config.Model(), architecture=json.dumps(made.config.to_dict()), compute_dtype="float32", attention="xla"
    )


def parameters_of(made: Any, definition: build.Definition) -> dict[str, Any]:
    """Return the weights as our nested dict."""
    bare = "" if made.base_model is not made else definition.family.prefix
    tensors = {bare + name: tensor.detach().numpy() for name, tensor in made.state_dict().items()}
    tree: dict[str, Any] = {}
    for leaf, name, transposed in definition.family.weights(definition.shape):
        names = (
            [name.format(layer=layer) for layer in range(definition.shape.num_layers)] if "{layer}" in name else [name]
        )
        parts = [tensors[one].T if transposed else tensors[one] for one in names]
        node, shape = tree, definition.abstract
        *path, last = leaf.split("/")
        for part in path:
            node, shape = node.setdefault(part, {}), shape[part]
        node[last] = jnp.asarray(np.stack(parts) if "{layer}" in name else parts[0]).reshape(shape[last].shape)
    return tree
