"""One training step of adapters of rank 8 on GPT-2 124M beside peft under torch, in one run.

    python scripts/bench/lora.py --dtype float32
    python scripts/bench/lora.py --dtype bfloat16 --peer-python PYTHON_WITH_TORCH_AND_PEFT

Without --peer-python this interpreter needs the `oracle` extra. --targets all adapts the MLP, too. Memory is that of
the process on a CPU, and that of the device on a GPU.
"""

import argparse
import json
import os
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
    parser.add_argument("--targets", choices=("attention", "all"), default="attention")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peer-python", default=sys.executable)
    flags = parser.parse_args()
    shape = [flags.dtype, str(flags.rows), str(flags.length), flags.targets]
    env = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    # Both sides have the device at once: jax would take three quarters of its memory beforehand.
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    ours = paired.Worker([sys.executable, str(HERE / "lora_ours.py"), *shape], env)
    peer = paired.Worker([flags.peer_python, str(HERE / "lora_torch.py"), *shape], env)
    result = paired.compare(ours, peer, pairs=flags.pairs, warmup=1)
    about = {"setting": " ".join(shape), "ours": ours.about, "peer": peer.about}
    ours.close(), peer.close()
    print(json.dumps(about | {"result": result}, indent=2))


if __name__ == "__main__":
    main()
