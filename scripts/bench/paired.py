"""Times two programs in turn, A B A B ..., so that a drift of the machine's speed touches both alike.

Each side is a worker process: it prepares, prints {"ready": ...}, and then answers every line it reads with one JSON
object of measurements. Ratios are taken pair by pair and their median is quoted.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def process_peak() -> int:
    """Return the most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(work: Callable[[], Any], about: dict[str, Any], peak: Callable[[], int] = process_peak) -> None:
    """Be a worker: run `work` once for every line on standard input and report seconds and peak memory."""
    print(json.dumps({"ready": about}), flush=True)
    for _ in sys.stdin:
        start, busy = time.perf_counter(), time.process_time()
        work()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "peak_bytes": peak()}), flush=True)


class Worker:
    """The other end of `serve`."""

    def __init__(self, command: list[str], env: dict[str, str]):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | env
        )
        self.about = self._read()["ready"]

    def measure(self) -> dict[str, Any]:
        """Let the worker run once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the worker."""
        self._process.terminate()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a worker ended with exit code {self._process.wait()}: {self._process.args}")


def compare(ours: Worker, peer: Worker, *, pairs: int, warmup: int) -> dict[str, float]:
    """Return medians of both sides and of the ratios ours/peer, in time and in peak memory."""
    for _ in range(warmup):
        ours.measure(), peer.measure()
    rows = [(ours.measure(), peer.measure()) for _ in range(pairs)]
    return {
        "ours_secs": statistics.median(a["seconds"] for a, _ in rows),
        "peer_secs": statistics.median(b["seconds"] for _, b in rows),
        "ratio": statistics.median(a["seconds"] / b["seconds"] for a, b in rows),
        "ratio_low": min(a["seconds"] / b["seconds"] for a, b in rows),
        "ratio_high": max(a["seconds"] / b["seconds"] for a, b in rows),
        "cpu_ratio": statistics.median(a["cpu_seconds"] / b["cpu_seconds"] for a, b in rows),
        "ours_peak_gib": rows[-1][0]["peak_bytes"] / 2**30,
        "peer_peak_gib": rows[-1][1]["peak_bytes"] / 2**30,
        "memory_ratio": rows[-1][0]["peak_bytes"] / rows[-1][1]["peak_bytes"],
        "pairs": pairs,
    }


def report(setting: dict[str, Any], commands: dict[str, list[str]], env: dict[str, str], *, pairs: int) -> None:
    """Compare the first of two commands with the second, after a warm-up, and print one JSON object."""
    workers = {name: Worker(command, env) for name, command in commands.items()}
    ours, peer = workers.values()
    result = compare(ours, peer, pairs=pairs, warmup=1)
    about = {name: worker.about for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    print(json.dumps({"setting": setting, **about, "result": result}, indent=2))
