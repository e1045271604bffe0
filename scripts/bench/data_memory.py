"""Peak memory of the data pipeline over a corpus and over one ten times as large, each read whole.

    python scripts/bench/data_memory.py [--megabytes 10] [--factor 10]

The text is the standard library's source, each copy with a changed line at its head so that no two documents are equal.
Every corpus is read in a process of its own, with the same tokenizer; the table goes into docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from codex_jax import config
from codex_jax.data import pipeline
from codex_jax.safety import gate
from codex_jax.tokenizers import training


def write_corpus(directory: Path, megabytes: int, kind: str) -> None:
    """Write about so many megabytes as text files of about 1 MB, or as one JSONL file."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    directory.mkdir()
    left, copy = megabytes * 1_000_000, 0
    with open(directory / "rows.jsonl", "w") if kind == "jsonl" else open("/dev/null", "w") as rows:
        while left > 0:
            for path in sources:
                text = f"# copy {copy}\n{path.read_text(encoding='utf-8', errors='ignore')}"
                if kind == "jsonl":
                    rows.write(json.dumps({"text": text}) + "\n")
                else:
                    (directory / f"{copy}-{path.name}").write_text(text)
                left -= len(text.encode())
                if left <= 0:
                    return
            copy += 1


def read_whole(directory: Path, tokenizer: Path) -> None:
    """Read one epoch in this process and print what it took."""
    base = config.Config()
    settings = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, paths=(str(directory),), sequence_length=512),
        tokenizer=dataclasses.replace(base.tokenizer, path=str(tokenizer)),
    )
    mixture = pipeline.open_mixture(settings.data, gate.of(settings.safety))
    stream = pipeline.train_stream(settings, mixture, pipeline.make_tokenizer(settings, mixture), 16)
    start, first, tokens = time.perf_counter(), 0.0, 0
    corpus = mixture[0].corpus
    windows = -(-corpus.num_bytes // settings.data.window_bytes)
    while stream.state()["window"] < windows:
        tokens += int(next(stream).weights_BL.sum())
        first = first or time.perf_counter() - start
    seconds = time.perf_counter() - start
    stream.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"MB": corpus.num_bytes / 1e6, "tokens": tokens, "first_batch_secs": round(first, 2),
                      "MB_per_sec": round(corpus.num_bytes / 1e6 / seconds, 2), "peak_MiB": round(peak)}))  # fmt: skip


def main() -> None:
    """Measure both sizes of both kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--factor", type=int, default=10)
    parser.add_argument("--read", nargs=2, type=Path, metavar=("CORPUS", "TOKENIZER"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.read:
        return read_whole(*flags.read)
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        write_corpus(here / "sample", 2, "text")
        training.train([path.read_text() for path in (here / "sample").iterdir()], 8192).save(here / "tokenizer")
        for kind in ("text", "jsonl"):
            for megabytes in (flags.megabytes, flags.megabytes * flags.factor):
                write_corpus(here / f"{kind}{megabytes}", megabytes, kind)
                command = [
                    sys.executable,
                    __file__,
                    "--read",
                    str(here / f"{kind}{megabytes}"),
                    str(here / "tokenizer"),
                ]
                print(
                    kind, subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True
                )


if __name__ == "__main__":
    main()
