"""What it costs that all processes of a run meet before each step: two on this machine, one JSON object.

    python scripts/bench/meeting.py [--meetings 2000]

A meeting is what `Stopping.is_agreed` does: each says whether a signal came to it, and hears of all.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import jax

from codex_jax import config
from codex_jax.hosts import join
from codex_jax.hosts.stopping import Stopping
from codex_jax.signals import StopRequest


def main() -> None:
    """Start the other process, meet, and print how long the meetings of this one took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meetings", type=int, default=2000)
    parser.add_argument("--address", default="")
    flags = parser.parse_args()
    other = None
    if not flags.address:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            flags.address = f"127.0.0.1:{free.getsockname()[1]}"
        other = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--address", flags.address])
    parallel = config.Parallel(coordinator=flags.address, num_processes=2, process_index=0 if other else 1)
    took = []
    with join.join(parallel, lambda: None) as team:
        stopping = Stopping(team, StopRequest())
        for _ in range(flags.meetings):
            begin = time.perf_counter()
            stopping.is_agreed()
            took.append(time.perf_counter() - begin)
    if other:
        other.wait()
        micros = [round(1e6 * value, 1) for value in (statistics.median(took), *statistics.quantiles(took, n=100)[-1:])]
        print(
            json.dumps({"jax": jax.__version__, "cpus": os.cpu_count(), "median_micros": micros[0], "p99": micros[1]})
        )


if __name__ == "__main__":
    main()
