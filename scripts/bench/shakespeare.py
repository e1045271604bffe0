"""nanoGPT's CPU recipe (config/train_shakespeare_char.py with the README's CPU flags) here and there, in turn.

    python scripts/bench/shakespeare.py --nanogpt CHECKOUT --text tinyshakespeare.txt [--peer-python PYTHON_WITH_TORCH]

Whole commands are timed, from start to exit: imports, compilation, 2000 updates, evaluations and the last checkpoint.
Our validation loss is over all of the last tenth of the text, nanoGPT's is the estimate it prints.
"""

import argparse
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers


ROOT = Path(__file__).parents[2]
EOS = "<|endoftext|>"


def prepare(text: str, here: Path, there: Path) -> None:
    """Write the same split of the text and the same characters for both sides."""
    characters = sorted(set(text))
    cut = int(0.9 * len(text))
    (here / "train.txt").write_text(text[:cut])
    (here / "val.txt").write_text(text[cut:])
    vocabulary = {character: index for index, character in enumerate([*characters, EOS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.add_special_tokens([EOS])
    tokenizer.save(str(here / "tokenizer.json"))
    there.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", text[:cut]), ("val", text[cut:])):
        np.array([vocabulary[character] for character in part], np.uint16).tofile(there / f"{name}.bin")
    strings = {index: character for character, index in vocabulary.items() if character != EOS}
    (there / "meta.pkl").write_bytes(
        pickle.dumps({"vocab_size": len(characters), "itos": strings, "stoi": {v: k for k, v in strings.items()}})
    )


def ours(here: Path, num_steps: int) -> list[str]:
    """Return our command."""
    keys: dict[str, Any] = {
        "model.num_layers": 4,
        "model.num_heads": 4,
        "model.width": 128,
        "model.context_length": 64,
        "model.vocab_size": 66,
        "tokenizer.path": here / "tokenizer.json",
        "data.paths": here / "train.txt",
        "data.validation_paths": here / "val.txt",
        "data.sequence_length": 64,
        "data.document_bytes": 2_000_000,
        "train.num_steps": num_steps,
        "train.global_batch_size": 12,
        "train.log_every": 100,
        "optimizer.learning_rate": 1e-3,
        "optimizer.final_learning_rate": 1e-4,
        "optimizer.warmup_steps": 100,
        "optimizer.beta2": 0.99,
        "eval.every_steps": num_steps,
        "eval.num_batches": 200,
        "checkpoint.every_steps": num_steps,
    }
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    workdir = tempfile.mkdtemp(dir=here)
    config = f"--config={ROOT / 'configs' / 'gpt2.py'}:tiny"
    return [sys.executable, "-m", "codex_jax.main", config, f"--workdir={workdir}", *flags]


def theirs(python: str, num_steps: int, out: Path) -> list[str]:
    """Return nanoGPT's command, as its README gives it for a CPU."""
    flags = (
        "--device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64 --batch_size=12 --n_layer=4"
    )
    flags += f" --n_head=4 --n_embd=128 --max_iters={num_steps} --lr_decay_iters={num_steps} --dropout=0.0"
    return [python, "train.py", "config/train_shakespeare_char.py", *flags.split(), f"--out_dir={out}"]


def run(command: list[str], directory: Path, pattern: str) -> tuple[float, float]:
    """Return seconds of a whole command and the last validation loss it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, float(re.findall(pattern, done.stdout)[-1])


def main() -> None:
    """Run the pairs and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=2000)
    flags = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        prepare(flags.text.read_text(), here, flags.nanogpt / "data" / "shakespeare_char")
        rows = [
            (
                run(ours(here, flags.num_steps), ROOT, r"validation loss ([\d.]+)  perplexity"),
                run(theirs(flags.peer_python, flags.num_steps, here / "out"), flags.nanogpt, r"val loss ([\d.]+)"),
            )
            for _ in range(flags.pairs)
        ]
    result = {
        "ours_secs": statistics.median(a[0] for a, _ in rows),
        "peer_secs": statistics.median(b[0] for _, b in rows),
        "ratio": statistics.median(a[0] / b[0] for a, b in rows),
        "ours_validation_loss": statistics.median(a[1] for a, _ in rows),
        "peer_validation_loss": statistics.median(b[1] for _, b in rows),
        "pairs": flags.pairs,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
