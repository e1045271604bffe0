"""Small stores of several shards for the tests, and a program that builds one.

python stores.py CORPUS STORE WORKERS [key=value ...]
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from corpora import TOKENIZER, opened, resolve

from codex_jax import config, exits
from codex_jax.data import pipeline, plan
from codex_jax.data import stores as made_stores
from codex_jax.data.batch import Batch
from codex_jax.data.store import Store


# A corpus of 60 rows of about 90 bytes then has some six shards of a few units each.
SHARD_BYTES = 1024


def settings_for(corpus: Path, store: Path, **changes: Any) -> config.Config:
    """Settings of a store of `corpus` in `store`."""
    return resolve(data__paths=(str(corpus),), data__mode="store", data__store=str(store), **changes)


def build(settings: config.Config, between: Callable[[], None] = lambda: None) -> Store:
    (made,) = made_stores.make(settings, opened(settings), TOKENIZER, between)
    return made


def open_stream(settings: config.Config, batch_size: int = 8, shard: tuple[int, int] = (0, 1)) -> Any:
    return pipeline.train_stream(settings, opened(settings), TOKENIZER, batch_size, shard)


def contents(store: Path) -> dict[str, str]:
    """Digests of every file of every shard."""
    files = sorted(path for path in (store / "shards").rglob("*") if path.is_file())
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def digest(*parts: Batch) -> str:
    """A digest of a batch, given whole or in the parts of several hosts."""
    total = hashlib.sha256()
    for arrays in zip(*parts, strict=True):
        for array in arrays:
            total.update(array.tobytes())
    return total.hexdigest()


def hang_at_document_40(text: str, stage: str) -> bool:
    """A classifier that hangs at a document while there is a file `hang`."""
    while text.startswith("document 40:") and Path("hang").exists():
        time.sleep(0.02)
    return True


def check_resume_and_workers(path: Path) -> None:
    """See that a stream of a file of some hundred rows resumes, and that worker processes yield the same."""
    batches = []
    for workers in (0, 2):
        stream = open_stream(resolve(data__paths=(str(path),), data__workers=workers))
        found = [(digest(next(stream)), json.loads(json.dumps(stream.state()))) for _ in range(20)]
        stream.close()
        batches.append([one for one, _ in found])
    assert batches[0] == batches[1] and len(set(batches[0])) == 20
    resumed = open_stream(resolve(data__paths=(str(path),)))
    resumed.restore(found[7][1])
    assert digest(next(resumed)) == found[8][0]
    resumed.close()


def main(corpus: str, directory: str, workers: str, *pairs: str) -> int:
    changes = {key: yaml.safe_load(value) for key, value in (pair.split("=") for pair in pairs)}
    settings = settings_for(Path(corpus), Path(directory), data__workers=int(workers), **changes)
    return exits.guarded(lambda: build(settings), debug=False)


if __name__ == "__main__":
    plan.SHARD_BYTES = SHARD_BYTES
    exits.end(main(*sys.argv[1:]))
