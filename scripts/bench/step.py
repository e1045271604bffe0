"""One training step of GPT-2 124M beside transformers' model under torch, in one run.

    python scripts/bench/step.py --dtype float32
    python scripts/bench/step.py --dtype bfloat16 --peer-python PYTHON_WITH_TORCH
    python scripts/bench/step.py --dtype bfloat16 --rows 16 --length 1024 --compile     # on a GPU

Without --peer-python this interpreter needs the `oracle` extra. With --alone only our side is timed. Memory is that of
the process on a CPU, and that of the device on a GPU.
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
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the peer's model goes through torch.compile")
    flags = parser.parse_args()
    shape = [flags.dtype, str(flags.rows), str(flags.length)]
    env = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    if "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):  # as training asks for
        env["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    # Both sides have the device at once: jax would take three quarters of its memory beforehand.
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    ours = paired.Worker([sys.executable, str(HERE / "step_ours.py"), *shape], env)
    about = {"setting": " ".join(shape), "ours": ours.about}
    if flags.alone:
        seconds = statistics.median([ours.measure()["seconds"] for _ in range(flags.pairs + 1)][1:])
        result = {"ours_secs": seconds}
    else:
        peer = paired.Worker(
            [flags.peer_python, str(HERE / "step_torch.py"), *shape, *(["compiled"] if flags.compile else [])], env
        )
        about["peer"] = peer.about
        result = paired.compare(ours, peer, pairs=flags.pairs, warmup=1)
        peer.close()
    ours.close()
    if ours.about["peak_flops"]:
        result["ours_mfu"] = ours.about["step_flops"] / result["ours_secs"] / ours.about["peak_flops"]
    print(json.dumps(about | {"result": result}, indent=2))


if __name__ == "__main__":
    main()
