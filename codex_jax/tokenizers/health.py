"""What can be said of a tokenizer on this machine: where it is and why, what it is made of, whether it works."""

import dataclasses
from pathlib import Path
from typing import Any

from codex_jax import digest
from codex_jax.errors import AssetError, CodexError
from codex_jax.tokenizers import loading, manifest, sentencepiece
from codex_jax.tokenizers.kinds import kind_at
from codex_jax.tokenizers.resolve import NotFound
from codex_jax.tokenizers.tokenizer import Tokenizer


# Text that careless tokenizers do not give back.
PROBES = {
    "tabs": "\ta\t\tb",
    "CRLF": "a\r\nb\r\n",
    "lone CR": "a\rb\r",
    "leading blanks": "    a",
    "blanks in a row": "a  b   ",
    "capitals": "MyClass",
    "emoji": "\U0001f642 \U0001f469\u200d\U0001f469\u200d\U0001f467",
    "combining accents": "e\u0301 \u00e9",
    "NUL": "a\0b",
}
# What a tokenizer is read from, beside any .model and its added tokens.
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    manifest.NAME,
)


@dataclasses.dataclass(kw_only=True)
class Health:
    """One tokenizer; what could not be found out is left at its default."""

    name: str
    state: str = "well"
    """well, ill or absent"""
    problem: str = ""
    kind: str = ""
    path: str = ""
    rule: str = ""
    checked: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 by name"""
    manifest: str = ""
    """agrees, differs or none"""
    digest: str = ""
    vocab_size: int = 0
    roles: dict[str, int | None] = dataclasses.field(default_factory=dict)
    special_tokens: dict[str, int] = dataclasses.field(default_factory=dict)
    chat_template: str | None = None
    lost: list[str] = dataclasses.field(default_factory=list)
    """the PROBES that do not come back as they were"""


def check(name: str, kind: str = "") -> Health:
    """Return the health of a known asset, or of what lies at a path, of a kind or of the one that lies there.

    Nothing is raised for what is wrong with it.
    """
    health = Health(name=name, kind=kind)
    try:
        found = loading.find(name)
        health.path, health.rule = str(found.path), found.rule
        health.checked = [one.listed() for one in found.checked]
        health.files = {path.name: digest.of_file(path) for path in _files(found.path)}
        health.manifest = _agreement(found.path)
        describe(health, loading.load(found.path, kind))
        health.kind = kind or kind_at(found.path)
    except NotFound as error:
        health.state, health.problem = "ill" if error.promised else "absent", str(error)
        health.checked = [one.listed() for one in error.checked]
    except CodexError as error:
        health.state, health.problem = "ill", str(error)
    except OSError as error:
        health.state, health.problem = "ill", f"{error.filename or name} cannot be read: {error.strerror}"
    return health


def describe(health: Health, made: Tokenizer) -> None:
    """Fill in what only a loaded tokenizer can tell, and try it on the probes."""
    health.digest, health.vocab_size = made.digest, made.vocab_size
    health.roles = {"eos": made.eos_id, "pad": made.pad_id, "bos": made.bos_id, "unk": made.unk_id}
    health.special_tokens = dict(made.special_tokens)
    health.chat_template = made.chat_template
    encoded = dict(zip(PROBES, made.encode(list(PROBES.values())), strict=True))
    health.lost = [name for name, ids in encoded.items() if made.decode(ids.tolist()) != PROBES[name]]
    largest = max(int(ids.max()) for ids in encoded.values() if ids.size)
    if largest >= made.vocab_size:
        health.state, health.problem = "ill", f"id {largest} is not below the vocabulary size {made.vocab_size}"


def directory_of(path: Path) -> Path:
    """Return the directory a tokenizer's files are in."""
    return path if path.is_dir() else path.parent


def _files(path: Path) -> list[Path]:
    directory, model = directory_of(path), sentencepiece.find_model(path)
    found = [path] if path.is_file() else []
    found += [model, sentencepiece.sidecar(model)] if model else []
    found += [directory / name for name in FILES]
    return [file for file in dict.fromkeys(found) if file.is_file()]


def _agreement(path: Path) -> str:
    try:
        return "agrees" if manifest.verify(directory_of(path)) else "none"
    except AssetError:
        return "differs"
