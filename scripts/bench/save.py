"""Saves and verified restores of GPT-2 124M with AdamW, 1.5 GB, beside torch.save and torch.load, and bare Orbax.

    python scripts/bench/save.py DIRECTORY --peer torch --peer-python PYTHON_WITH_TORCH
    python scripts/bench/save.py DIRECTORY --peer orbax

DIRECTORY is made and removed; it is on the disk that is measured. A save ends when all of it is flushed. Ours hashes
every file and looks at every number as well, at both ends. Files are read back from the page cache.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import paired


HERE = Path(__file__).parent


def main() -> None:
    """Run the pairs of both actions and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--peer", choices=("torch", "orbax"), default="torch")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--pairs", type=int, default=5)
    flags = parser.parse_args()
    env = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    result = {}
    for action in ("save", "restore"):
        sides = (("ours", sys.executable), (flags.peer, flags.peer_python))
        ours, peer = (
            paired.Worker([python, str(HERE / "save_worker.py"), side, action, str(flags.directory / side)], env)
            for side, python in sides
        )
        measured = paired.compare(ours, peer, pairs=flags.pairs, warmup=1)
        size = ours.about["bytes"] / 1e6
        rates = {f"{side}_mb_per_sec": size / measured[f"{side}_secs"] for side in ("ours", "peer")}
        result[action] = measured | rates | {"ours": ours.about, "peer": peer.about}
        ours.close()
        peer.close()
    shutil.rmtree(flags.directory)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
