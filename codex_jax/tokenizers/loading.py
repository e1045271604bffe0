"""Tokenizers that exist: from a path, or as the settings of a run name them."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import beside, manifest
from codex_jax.tokenizers.kinds import KINDS, kind_at
from codex_jax.tokenizers.resolve import ASSETS, WANTED, Checked, Resolved, resolve
from codex_jax.tokenizers.tokenizer import Tokenizer


class Origin(NamedTuple):
    """Where the tokenizer of a run comes from."""

    kind: str
    rule: str
    """what decided: a rule of `resolve`, that its kind needs no file, or that it is trained"""
    path: Path | None


def load(path: Path, kind: str = "") -> Tokenizer:
    """Return the tokenizer at `path`, of a kind or of the one that lies there, its files as the manifest says.

    AssetError, saying what was looked for, when it is missing or damaged.
    """
    path = path.expanduser()
    try:
        if not path.exists():
            raise AssetError(f"{path} does not exist; {WANTED}")
        manifest.verify(path if path.is_dir() else path.parent)
        return KINDS.get(kind or kind_at(path)).load(path)
    except OSError as error:
        raise AssetError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def find(name_or_path: str) -> Resolved:
    """Return where a tokenizer is that a person names: a known asset by its name, anything else by its path."""
    if name_or_path in ASSETS:
        return resolve(name_or_path, "")
    path = Path(name_or_path).expanduser()
    return Resolved(path, "path", (Checked(path, "path", path.exists()),))


def origin(settings: config.Tokenizer) -> Origin:
    """Return where the tokenizer of these settings comes from; AssetError when it is not there."""
    if settings.path or settings.name:
        found = resolve(settings.name, settings.path)
        return Origin(settings.kind or kind_at(found.path), found.rule, found.path)
    kind = settings.kind or "hf"
    return Origin(kind, "needs no file" if KINDS.get(kind).make else "trained on these data", None)


def of_weights(settings: config.Config) -> config.Config:
    """Return the settings with the tokenizer that comes with the weights, where they name weights and no tokenizer.

    ConfigError when there is none: one that is trained on other data would give the tokens other numbers.
    """
    named = settings.tokenizer
    if not settings.model.weights or named.path or named.name or named.kind:
        return settings
    directory = Path(settings.model.weights)
    try:
        kind_at(directory)
    except AssetError as error:
        raise ConfigError(
            f"there is no tokenizer with the weights ({error}): put its files there, or name it in tokenizer.path"
        ) from error
    return dataclasses.replace(settings, tokenizer=dataclasses.replace(named, path=str(directory)))


def given(settings: config.Tokenizer) -> Tokenizer | None:
    """Return the tokenizer that the settings name, fit for training; None when it is to be trained first.

    AssetError when it is missing, damaged, or has no token that ends a document.
    """
    found = origin(settings)
    if found.path is None:
        make = KINDS.get(found.kind).make
        return make() if make else None
    made = load(found.path, found.kind)
    if made.eos_id is None:
        raise AssetError(
            f"{found.path} has no token that ends a document: looked for {', '.join(beside.EOS_NAMES)}; "
            "add one of them, or name it as eos_token in a tokenizer_config.json beside it"
        )
    return made
