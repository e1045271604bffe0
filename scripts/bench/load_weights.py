"""Seconds and peak memory of loading a directory of weights as float32: here, or by transformers.

python scripts/bench/load_weights.py make DIRECTORY     # writes TinyLlama's shapes, bfloat16, random, 2.2 GB
python scripts/bench/load_weights.py ours DIRECTORY     # and then: theirs
"""

import json
import sys
import time
from pathlib import Path


def peak() -> int:
    """Return the most memory this process has had, in bytes."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


def make(directory: Path) -> None:
    """Write the weights."""
    import functools

    import numpy as np

    from codex_jax import config, trees
    from codex_jax.models import build, catalogue, outgoing, pretrained

    directory.mkdir()
    text = json.dumps({**catalogue.entry("tinyllama-1.1b-chat").config, "architectures": ["LlamaForCausalLM"]})
    (directory / "config.json").write_text(text)
    definition = build.define(config.Model(architecture=text))
    shapes = dict(trees.named_leaves(definition.abstract))
    rng = np.random.default_rng(0)
    sent = [
        outgoing.Outgoing(name, shape, functools.partial(rng.standard_normal, shape, np.float32))
        for leaf, row, names in pretrained.rows(definition)
        for shape in [pretrained.published_shape(leaf, shapes[leaf].shape, row)]
        for name in names
    ]
    outgoing.write_safetensors(directory, sent, "bfloat16", 50 * 10**9)


def ours(directory: Path) -> float:
    """Load the directory here; return the seconds."""
    import jax

    from codex_jax import config
    from codex_jax.models import build, pretrained

    definition = build.define(config.Model(weights=str(directory)))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    places = jax.tree.map(lambda leaf: place, definition.abstract)
    begin = time.perf_counter()
    jax.block_until_ready(pretrained.load(directory, definition, places))
    return time.perf_counter() - begin


def theirs(directory: Path) -> float:
    """Load the directory by transformers; return the seconds."""
    import torch
    import transformers

    begin = time.perf_counter()
    transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return time.perf_counter() - begin


if __name__ == "__main__":
    name, path = sys.argv[1], Path(sys.argv[2])
    if name == "make":
        make(path)
    else:
        seconds = {"ours": ours, "theirs": theirs}[name](path)
        print(f"{name}: {seconds:.1f} s, peak {peak() / 1e9:.2f} GB")
