"""Greedy decoding of GPT-2 124M beside transformers' `generate` under torch, in one run.

    python scripts/bench/generate.py --batch 8 --peer-python PYTHON_WITH_TORCH
    python scripts/bench/generate.py --batch 1 --dtype bfloat16 --peer-python PYTHON_WITH_TORCH

Prompts of 32 tokens, random weights; neither side ends before. Seconds are those of a whole call.
On a machine that is busy with other work --cores 1 gives each side one core, and `cpu_ratio` compares the time they
were at work: waiting for the core does not count, and torch has no threads to spin for.

Without --peer-python this interpreter needs the `oracle` extra. With --alone only our side is timed.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import paired


HERE = Path(__file__).parent


def main() -> None:
    """Run the pairs and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--cores", type=int, default=0, help="0: all")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--alone", action="store_true")
    flags = parser.parse_args()
    shape = [flags.dtype, str(flags.batch), str(flags.new_tokens)]
    if flags.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.cores])
    env = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    ours = paired.Worker([sys.executable, str(HERE / "generate_ours.py"), *shape], env)
    about = {"setting": " ".join(shape), "ours": ours.about}
    if flags.alone:
        result = {"ours_secs": statistics.median([ours.measure()["seconds"] for _ in range(flags.pairs)])}
    else:
        peer = paired.Worker([flags.peer_python, str(HERE / "generate_torch.py"), *shape], env)
        about["peer"] = peer.about
        result = paired.compare(ours, peer, pairs=flags.pairs, warmup=1)
        result["peer_tokens_per_sec"] = flags.batch * flags.new_tokens / result["peer_secs"]
        peer.close()
    ours.close()
    result["ours_tokens_per_sec"] = flags.batch * flags.new_tokens / result["ours_secs"]
    print(json.dumps(about | {"result": result}, indent=2))


if __name__ == "__main__":
    main()
