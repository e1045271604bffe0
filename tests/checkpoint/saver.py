"""A program that saves example states one after the other and prints `saved STEP` for each acknowledgement.

python saver.py ROOT FIRST LAST [--go-on] [--max-secs=S] [--file-size=BYTES] [--memory=BYTES] [--ballast=FILE] [--steps]
"""

import argparse
import os
import queue
import resource
import sys
import time
from pathlib import Path


os.environ["JAX_PLATFORMS"] = "cpu"

import checkpoint_examples as examples

from codex_jax.checkpoint import saving
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import CodexError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--go-on", action="store_true")
    parser.add_argument("--max-secs", type=float, default=3600.0)
    parser.add_argument("--file-size", type=int, default=0, help="of the last save, at most")
    parser.add_argument("--memory", type=int, default=0, help="that may be taken after all saves but the last")
    parser.add_argument("--ballast", type=Path, help="a file that is deleted when a save has failed")
    parser.add_argument("--steps", action="store_true", help="print `step` again and again while a save is under way")
    return parser.parse_args()


def limit(flags: argparse.Namespace) -> None:
    if flags.file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (flags.file_size, flags.file_size))
    if flags.memory:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + flags.memory, taken + flags.memory))


def main(flags: argparse.Namespace) -> int:
    on = examples.mesh(1)
    acknowledged: queue.Queue[int] = queue.Queue()

    def on_saved(step: int, _: Manifest) -> None:
        print("saved", step, flush=True)
        acknowledged.put(step)

    def on_failed(reason: str) -> None:
        print("failed", reason, flush=True)
        if flags.ballast:
            flags.ballast.unlink(missing_ok=True)

    policy = saving.Policy(flags.go_on, flags.max_secs)
    with saving.Checkpointer(flags.root, Rules(2), on_saved, on_failed=on_failed, policy=policy) as checkpointer:
        print("removed", *checkpointer.removed, flush=True)
        for step in range(flags.first, flags.last + 1):
            checkpointer.raise_if_failed()
            if step == flags.last and (flags.file_size or flags.memory):
                while flags.first < flags.last and acknowledged.get() < flags.last - 1:
                    pass
                limit(flags)
            state = examples.make(step, on, width=10_000_000 if flags.memory and step == flags.last else 4096)
            checkpointer.save(step, state, {"next": step}, {})
            while flags.steps and acknowledged.empty():
                print("step", flush=True)
                time.sleep(0.02)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(parse()))
    except CodexError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
