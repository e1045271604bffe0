"""Makes gpt2_torch.json: what transformers' GPT2LMHeadModel computes, in float32 on a CPU, for weights made by NumPy.

    PYTHONPATH=tests/models python tests/golden/make_gpt2_torch.py

Change the file only when the weights or the batch below change; never to make a test pass.
"""

import json
from pathlib import Path
from typing import Any

import gpt2_weights
import numpy as np
import torch
import transformers

from codex_jax import config


PATH = Path(__file__).with_name("gpt2_torch.json")


def compute(model: config.Model, rows: int, length: int) -> tuple[float, float, np.ndarray[Any, Any]]:
    """Return the mean next-token loss, the norm of its gradient, and the logits (rows, length, vocabulary)."""
    settings = transformers.GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=model.context_length,
        n_embd=model.width,
        n_layer=model.num_layers,
        n_head=model.num_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    network = transformers.GPT2LMHeadModel(settings)
    weights = gpt2_weights.published_names(model, seed=1)
    missing, unexpected = network.transformer.load_state_dict(
        {name: torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    assert not unexpected and all(name.endswith((".attn.bias", ".attn.masked_bias")) for name in missing)
    ids = torch.from_numpy(gpt2_weights.tokens(model, rows, length + 1, seed=2).astype(np.int64))
    logits = network(ids[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    squares = sum(parameter.grad.double().square().sum() for parameter in network.parameters())
    return loss.item(), squares.sqrt().item(), logits.detach().numpy()


if __name__ == "__main__":
    loss, grad_norm, logits = compute(gpt2_weights.SMALL, rows=2, length=40)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    golden = {"made_with": versions, "loss": loss, "grad_norm": grad_norm, "logits_row0_last": logits[0, -1].tolist()}
    PATH.write_text(json.dumps(golden) + "\n")
