"""A run of seconds: a corpus of a few files, a model of a few thousand parameters, and ways to compare what it left."""

import hashlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from codex_jax.checkpoint import manifest


_started: "list[subprocess.Popen[str]]" = []

WORDS = """
the a model data token loss step layer train test weight batch norm head key value mask seed file
"""


def write_corpus(directory: Path, *, num_files: int = 12, seed: int = 0) -> Path:
    """Write text files of about 4 kB, some with an e-mail address to be redacted."""
    draw = random.Random(seed)
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(num_files):
        lines = [" ".join(draw.choices(WORDS.split(), k=9)) + f" {draw.randrange(1000)}" for _ in range(80)]
        if number % 3 == 0:
            lines[5] = f"write to person{number}@example.org about it"
        (directory / f"part{number:02d}.txt").write_text("\n".join(lines) + "\n")
    return directory


def write_rows(path: Path, *, broken: int, whole: int) -> None:
    """Write a JSONL file; its broken rows come first and carry a word that nothing may repeat."""
    kinds = [
        b'{"text": "privateword"',
        b'{"text": "privateword \xff"}',
        b'{"other": "privateword"}',
        b'["privateword"]',
    ]
    rows = [kinds[number % len(kinds)] for number in range(broken)]
    text = " ".join(WORDS.split())
    for number in range(whole):
        rows.append(json.dumps({"text": f"{text} {number}", "title": f"number {number} of {whole}"}).encode())
    path.write_bytes(b"\n".join(rows) + b"\n")


def write_pairs(path: Path, count: int) -> None:
    """Write a JSONL file of instructions, each with another field that could be either part."""
    rows = [{"prompt": f"what is {n}?", "completion": f"the number {n}", "title": f"of {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_chats(path: Path, count: int) -> None:
    """Write a JSONL file of chats, each with text and with another chat beside it."""
    rows = []
    for number in range(count):
        question = {"role": "user", "content": f"what is {number}?"}
        chats = [[question, {"role": "assistant", "content": f"{word} {number}"}] for word in ("token", "weight")]
        rows.append({"messages": chats[0], "turns": chats[1], "text": f"text {number}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_labelled(path: Path, count: int) -> None:
    """Write a JSONL file of texts of two classes, each with another field that could be the class."""
    kinds = ("even", "odd")
    rows = [{"text": f"number {n}", "label": kinds[n % 2], "other": kinds[n // 2 % 2]} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def arguments(corpus: Path, workdir: Path, changes: Mapping[str, Any]) -> list[str]:
    """Return the command line of the small run, with some keys changed."""
    keys = {
        "model.num_layers": 2,
        "model.num_heads": 2,
        "model.width": 32,
        "model.vocab_size": 320,
        "model.context_length": 64,
        "model.dropout": 0.1,
        "tokenizer.vocab_size": 320,
        "data.paths": corpus,
        "data.sequence_length": 32,
        "data.document_bytes": 512,
        "data.window_bytes": 8192,
        "data.validation_fraction": 0.2,
        "train.num_steps": 16,
        "train.global_batch_size": 4,
        "train.microbatch_size": 2,
        "train.log_every": 1,
        "checkpoint.every_steps": 4,
        "eval.every_steps": 8,
        "eval.num_batches": 2,
        "generate.num_tokens": 8,
        "optimizer.warmup_steps": 4,
        "tracking.tensorboard.enabled": False,
    }
    root = Path(__file__).resolve().parents[2]
    given = [f"--config.{key}={value}" for key, value in {**keys, **changes}.items()]
    return [f"--config={root}/configs/gpt2.py:tiny", f"--workdir={workdir}", *given]


def start(args: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> "subprocess.Popen[str]":
    """Start the command; its output goes to a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "codex_jax.main", *args],
        cwd=cwd,
        env={**env, "CODEX_RUN_ID": "small", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _started.append(process)
    return process


def kill_started() -> None:
    """Kill what was started since the last call and still runs: a test that fails leaves nothing behind."""
    while _started:
        _started.pop().kill()


def finish(args: Sequence[str], env: Mapping[str, str]) -> str:
    """Run the command to its end, which must be a good one, and return what it printed."""
    process = start(args, env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def wait_for(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Read what the process prints up to a line that begins so (runs of spaces count as one)."""
    assert process.stdout is not None
    for line in process.stdout:
        if " ".join(line.split()).startswith(beginning):
            return
    raise AssertionError(f"the run ended with {process.wait()} before it printed {beginning!r}")


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return when it holds; fail when the process ends before, or two minutes pass."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metric_rows(workdir: Path) -> list[dict[str, Any]]:
    """Return the rows of the ledger that are a function of the settings: no time, no speed."""
    rows = [json.loads(line) for line in (workdir / "metrics.ndjson").read_text().splitlines()]
    return [{key: row[key] for key in row if key != "time"} for row in rows if row["split"] != "speed"]


def replayed_events(workdir: Path) -> list[dict[str, Any]]:
    """Return the events that a resumed run repeats word for word."""
    rows = [json.loads(line) for line in (workdir / "events.ndjson").read_text().splitlines()]
    kept = ("data.", "safety.", "sample")
    unlike = ("time", "chain")  # the chain is of the times as well
    return [{key: row[key] for key in row if key not in unlike} for row in rows if row["event"].startswith(kept)]


def steps(workdir: Path) -> list[int]:
    """Return the steps that are saved, in order."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())


def state_digest(workdir: Path, step: int) -> str:
    """Return a digest over the name and every byte of every array of a checkpoint, and of its data position."""
    directory = workdir / "checkpoints" / str(step)
    manifest.verify(directory)
    digest = hashlib.sha256((directory / "data" / "iterator.json").read_bytes())
    for name, array in sorted(arrays(workdir, step).items()):
        digest.update(name.encode() + np.asarray(array).tobytes())
    return digest.hexdigest()


def arrays(workdir: Path, step: int) -> dict[str, Any]:
    """Return every array of a checkpoint by its name."""
    directory = workdir / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as orbax:
        named = orbax.metadata(directory).item_metadata.tree
        as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in named}
        return dict(orbax.restore(directory, restore_args=as_numpy))
