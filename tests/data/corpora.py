"""Small corpora and settings for the tests of the pipeline."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_jax import config
from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout, mixture
from codex_jax.data.mixture import Mixture
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.safety import gate
from codex_jax.safety.gate import Gate
from codex_jax.tokenizers import training


WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "wizards",
    "brew",
    "green",
    "tea",
]


def resolve(**changes: Any) -> config.Config:
    """Settings with `section__key=value` changed; small rows and windows."""
    settings = config.default().to_dict()
    settings["data"].update(sequence_length=16, window_bytes=1024, document_bytes=64, validation_fraction=0.1)
    settings["tokenizer"].update(vocab_size=300)
    for name, value in changes.items():
        section, key = name.split("__")
        settings[section][key] = value
    return config.resolve(settings)


def opened(settings: config.Config) -> Mixture:
    """The corpora of settings, under the gate of these settings."""
    return mixture.open_mixture(settings.data, gate.of(settings.safety))


def text(number: int, words: int = 12) -> str:
    """A document that no other number has."""
    return f"document {number}: " + " ".join(WORDS[(number * 7 + i * 3) % len(WORDS)] for i in range(words))


def write_jsonl(path: Path, numbers: range, **fields: str) -> Path:
    """One row for each number."""
    path.write_text("".join(json.dumps({"text": text(number), **fields}) + "\n" for number in numbers))
    return path


def read(*paths: Path, **changes: Any) -> tuple[list[str], Report]:
    """All documents of some files, the parts of each with | between them, and what became of what was read."""
    data = resolve(data__paths=tuple(map(str, paths)), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    found = [[piece.text for piece in pieces] for pieces in reader.read(range(corpus.num_units), report)]
    return ["|".join(texts) for texts in found], report


def flipped(path: Path, times: int) -> Iterator[None]:
    """Yield so often, each time with another bit of the file flipped, and the file written as a new one."""
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(times):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.unlink()
        path.write_bytes(content)
        yield


TOKENIZER = training.train([text(number) for number in range(50)], 300)
