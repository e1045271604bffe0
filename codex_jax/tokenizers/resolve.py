"""The tokenizers that are known by name, and the places where one may lie."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from codex_jax import schema, whereabouts
from codex_jax.errors import ConfigError
from codex_jax.whereabouts import Checked, NotFound, Resolved


__all__ = ["ASSETS", "ROOTS", "WANTED", "Asset", "Checked", "NotFound", "Resolved", "resolve"]


class Asset(NamedTuple):
    """A tokenizer that is known by name."""

    variable: str
    """environment variable with its path"""
    subdirectory: str
    """of the directories that hold many"""


ASSETS = {
    "gpt2": Asset("CODEX_GPT2_TOKENIZER_PATH", "gpt2"),
    "tinyllama": Asset("CODEX_TINYLLAMA_TOKENIZER_PATH", "tinyllama"),
}
ROOTS = ("CODEX_OFFLINE_MODELS_DIR", "CODEX_OFFLINE_TOKENIZERS_DIR")
WANTED = (
    "name a tokenizer.json, a directory with one, a directory with vocab.json and merges.txt, or a SentencePiece .model"
)


def resolve(name: str, path: str) -> Resolved:
    """Return where the asset `name` is: at `path` if that is not empty, else in one of the usual places.

    AssetError when the path, or what a variable names, does not exist; when nothing is anywhere, it lists every place.
    """
    places = _places(name, path)
    advice = f"put its files there, or name their place in {ASSETS[name].variable}" if name in ASSETS else WANTED
    return whereabouts.search(f"the tokenizer {name}", places, wanted=WANTED, advice=advice)


def _places(name: str, path: str) -> Iterator[tuple[Path, str, bool]]:
    if path:
        yield Path(path).expanduser(), "tokenizer.path", True
        return
    if name not in ASSETS:
        near = schema.nearest(name, list(ASSETS))
        raise ConfigError(f"tokenizer.name={name} is not known{near}; there are: {', '.join(ASSETS)}")
    variable, subdirectory = ASSETS[name]
    yield from whereabouts.usual(variable, ROOTS, subdirectory)
