"""A training step with parallel.deterministic_reduction beside the same step without it, on virtual CPU devices.

    python scripts/bench/deterministic.py --devices 4 --size small
    python scripts/bench/deterministic.py --devices 1 --size middle

Memory is the peak of the process.
"""

import argparse
import os
import sys
from pathlib import Path

import paired


HERE = Path(__file__).parent


def main() -> None:
    """Run the pairs and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--size", choices=("small", "middle"), default="small")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    flags = parser.parse_args()
    env = {
        "PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", ""),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={flags.devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(HERE / "deterministic_worker.py"), flags.size]
    commands = {"ordered": [*command, str(flags.shards)], "plain": [*command, "0"]}
    paired.report(vars(flags), commands, env, pairs=flags.pairs)


if __name__ == "__main__":
    main()
