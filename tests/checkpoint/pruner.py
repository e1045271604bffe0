"""A program that is killed, with signal 9, before each thing retention does to the disk, in a fork for each.

python pruner.py TEMPLATE DIRECTORY keep_last keep_every keep_best

Copies TEMPLATE to DIRECTORY/1, DIRECTORY/2, ... and prints what the kill in each came before; at last, of one that was
not killed any more, `whole`.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from codex_jax.checkpoint import retention
from codex_jax.checkpoint.retention import Rules


# fsync has no event: its kill is the one before the next of these.
POINTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "shutil.rmtree")


def pruned(root: Path, rules: Rules, last: int, pipe: int) -> None:
    """Do as a trainer does after a save, until the event with the number `last`; never returns."""
    seen = 0

    def kill(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in POINTS:
            seen += 1
            if seen == last:
                os.write(pipe, event.encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    retention.sweep(root)
    retention.apply(root, rules, {})
    os._exit(0)


def main(template: Path, directory: Path, rules: Rules) -> None:
    for number in range(1, 10_000):
        root = directory / str(number)
        shutil.copytree(template, root)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            pruned(root, rules, number, writer)
        os.close(writer)
        status = os.waitpid(child, 0)[1]
        print(os.read(reader, 100).decode() or "whole", flush=True)
        os.close(reader)
        if status == 0:
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Rules(*map(int, sys.argv[3:])))
