"""A program that saves example states one after the other and prints `saved STEP` for each acknowledgement.

python saver.py ROOT FIRST LAST [FILE_SIZE_LIMIT]
"""

import os
import queue
import resource
import sys
from pathlib import Path


os.environ["JAX_PLATFORMS"] = "cpu"

import checkpoint_examples as examples

from codex_jax.checkpoint import store
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import CodexError


def main(root: Path, first: int, last: int, limit: int) -> int:
    on = examples.mesh(1)
    acknowledged: queue.Queue[int] = queue.Queue()

    def on_saved(step: int, _: Manifest) -> None:
        print("saved", step, flush=True)
        acknowledged.put(step)

    with store.Checkpointer(root, Rules(2), on_saved) as checkpointer:
        print("removed", *checkpointer.removed, flush=True)
        for step in range(first, last + 1):
            checkpointer.raise_if_failed()
            state = examples.make(step, on, width=4096)
            if step == last and limit:
                while acknowledged.get() < last - 1:
                    pass
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            checkpointer.save(step, state, {"next": step}, {})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), *map(int, [*sys.argv[2:], "0"][:3])))
    except CodexError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
