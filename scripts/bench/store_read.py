"""How fast a store is read: tokens a second from files to batches, on one core.

    python scripts/bench/store_read.py [--length 1024] [--rows 16]

The store is of the standard library's source, tokenised once; the files are in the page cache. Numbers are of rows in
shuffled order, with segments, positions and weights. The row goes into docs/benchmarks.md.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

from codex_jax import config
from codex_jax.data import pipeline, stores
from codex_jax.safety import gate


def settings_for(directory: Path, length: int, packing: str) -> config.Config:
    """Return the settings of a store of the standard library."""
    base = config.Config()
    data = dataclasses.replace(
        base.data,
        mode="store",
        store=str(directory),
        sequence_length=length,
        packing=packing,
        workers=os.cpu_count() or 1,
    )
    return dataclasses.replace(base, data=data)


def main() -> None:
    """Build the store and read it for a few seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for packing in ("concat", "first_fit"):
            settings = settings_for(Path(name), flags.length, packing)
            mixture = pipeline.open_mixture(settings.data, gate.of(settings.safety))
            tokenizer = pipeline.make_tokenizer(settings, mixture)
            stores.make(settings, mixture, tokenizer)
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            stream = pipeline.train_stream(settings, mixture, tokenizer, flags.rows)
            next(stream)  # the order of the epoch, and the maps
            began, tokens = time.perf_counter(), 0
            while (seconds := time.perf_counter() - began) < flags.seconds:
                tokens += next(stream).tokens_BL.size
            print(f"{packing}: rows of {flags.length}: {tokens / seconds / 1e6:.1f} million tokens/s on one core")


if __name__ == "__main__":
    main()
