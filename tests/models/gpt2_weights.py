"""GPT-2 weights that both sides can be given: made by NumPy, in the names of transformers and in ours."""

import dataclasses
from typing import Any

import numpy as np

from codex_jax import config


SMALL = dataclasses.replace(
    config.Config().model,
    vocab_size=131,
    context_length=48,
    num_layers=3,
    num_heads=2,
    width=32,
    compute_dtype="float32",
)


def published_names(model: config.Model, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return random weights under the names of transformers' state dict; kernels are (in, out), as in its Conv1D."""
    rng = np.random.default_rng(seed)
    width = model.width

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)

    def norm(prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        return {f"{prefix}.weight": 1.0 + normal(width), f"{prefix}.bias": normal(width)}

    weights = {"wte.weight": normal(model.vocab_size, width), "wpe.weight": normal(model.context_length, width)}
    for layer in range(model.num_layers):
        block = f"h.{layer}"
        weights |= norm(f"{block}.ln_1") | norm(f"{block}.ln_2")
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            weights[f"{block}.{name}.weight"] = normal(inputs, outputs)
            weights[f"{block}.{name}.bias"] = normal(outputs)
    return weights | norm("ln_f")


def ours(weights: dict[str, np.ndarray[Any, Any]], model: config.Model) -> dict[str, Any]:
    """Return the same weights as the nested dict of our decoder, layers stacked."""

    def stack(name: str) -> np.ndarray[Any, Any]:
        return np.stack([weights[f"h.{layer}.{name}"] for layer in range(model.num_layers)])

    def norm(name: str) -> dict[str, Any]:
        return {"scale": stack(f"{name}.weight"), "bias": stack(f"{name}.bias")}

    def dense(name: str) -> dict[str, Any]:
        return {"kernel": stack(f"{name}.weight"), "bias": stack(f"{name}.bias")}

    qkv = dense("attn.c_attn")
    shape = (model.num_layers, model.width, 3, model.width)
    qkv = {"kernel": qkv["kernel"].reshape(shape), "bias": qkv["bias"].reshape(shape[0], *shape[2:])}
    return {
        "tokens": {"embedding": weights["wte.weight"]},
        "positions": {"embedding": weights["wpe.weight"]},
        "norm": {"scale": weights["ln_f.weight"], "bias": weights["ln_f.bias"]},
        "blocks": {
            "attention_norm": norm("ln_1"),
            "mlp_norm": norm("ln_2"),
            "attention": {"qkv": qkv, "out": dense("attn.c_proj")},
            "mlp": {"up": dense("mlp.c_fc"), "down": dense("mlp.c_proj")},
        },
    }


def tokens(model: config.Model, rows: int, length: int, seed: int) -> np.ndarray[Any, Any]:
    """Return random token ids, (rows, length) int32."""
    return np.random.default_rng(seed).integers(0, model.vocab_size, (rows, length)).astype(np.int32)
