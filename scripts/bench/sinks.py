"""A training step beside the copies of its ledger: all four sinks, or two that are no help, beside the ledger alone.

    python scripts/bench/sinks.py [--size middle] [--every 10] [--sinks dead]

`all` is CSV, TensorBoard, MLflow in an SQLite file and W&B offline. `dead` is an MLflow server that accepts and never
answers, and W&B whose process is killed. `row_micros` is what a row costs the thread that trains, at one row in 5 ms.
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
    parser.add_argument("--size", choices=("small", "middle"), default="small")
    parser.add_argument("--every", type=int, default=10, help="train.log_every: steps a row")
    parser.add_argument("--steps", type=int, default=50, help="steps a measurement")
    parser.add_argument("--sinks", choices=("all", "dead"), default="all")
    parser.add_argument("--pairs", type=int, default=9)
    flags = parser.parse_args()
    env = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    command = [sys.executable, str(HERE / "sinks_worker.py"), flags.size, str(flags.every), str(flags.steps)]
    commands = {"copied": [*command, flags.sinks], "alone": [*command, "none"]}
    paired.report(vars(flags), commands, env, pairs=flags.pairs)


if __name__ == "__main__":
    main()
