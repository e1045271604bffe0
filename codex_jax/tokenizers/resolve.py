"""Where a tokenizer lies on a machine without network, by which rule it was found, and where else was looked."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import schema
from codex_jax.errors import AssetError, ConfigError


class Asset(NamedTuple):
    """A tokenizer that is known by name."""

    variable: str
    """environment variable with its path"""
    subdirectory: str
    """of the directories that hold many"""


class Checked(NamedTuple):
    """A place that was looked at."""

    path: Path
    rule: str
    found: bool

    def listed(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**self._asdict(), "path": str(self.path)}


class Resolved(NamedTuple):
    """Where the tokenizer is."""

    path: Path
    rule: str
    """what named the path: the config key, an environment variable, or artifacts/models"""
    checked: tuple[Checked, ...]


class NotFound(AssetError):
    """A tokenizer is in none of the places that were looked at."""

    def __init__(self, message: str, checked: list[Checked], *, promised: bool) -> None:
        super().__init__(message)
        self.checked = tuple(checked)
        self.promised = promised
        """whether a setting or a variable says that it is there"""


ASSETS = {
    "gpt2": Asset("CODEX_GPT2_TOKENIZER_PATH", "gpt2"),
    "tinyllama": Asset("CODEX_TINYLLAMA_TOKENIZER_PATH", "tinyllama"),
}
ROOTS = ("CODEX_OFFLINE_MODELS_DIR", "CODEX_OFFLINE_TOKENIZERS_DIR")
HERE = Path("artifacts/models")
WANTED = (
    "name a tokenizer.json, a directory with one, a directory with vocab.json and merges.txt, or a SentencePiece .model"
)


def resolve(name: str, path: str) -> Resolved:
    """Return where the asset `name` is: at `path` if that is not empty, else where the environment says, else HERE.

    AssetError when the path, or what a variable names, does not exist; when nothing is anywhere, it lists every place.
    """
    checked: list[Checked] = []
    for place, rule, promised in _places(name, path):
        checked.append(Checked(place, rule, place.exists()))
        if checked[-1].found:
            return Resolved(place, rule, tuple(checked))
        if promised:
            raise NotFound(f"{rule}={place} does not exist; {WANTED}", checked, promised=True)
    raise NotFound(
        f"the tokenizer {name} is nowhere on this machine; looked at:\n"
        + "\n".join(f"  {one.path} ({one.rule})" for one in checked)
        + f"\nput its files there, or name their place in {ASSETS[name].variable}",
        checked,
        promised=False,
    )


def _places(name: str, path: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield (path, rule, whether it must exist) in the order they count."""
    if path:
        yield Path(path).expanduser(), "tokenizer.path", True
        return
    if name not in ASSETS:
        near = schema.nearest(name, list(ASSETS))
        raise ConfigError(f"tokenizer.name={name} is not known{near}; there are: {', '.join(ASSETS)}")
    variable, subdirectory = ASSETS[name]
    if value := os.environ.get(variable):
        yield Path(value).expanduser(), variable, True
    for root in ROOTS:
        if value := os.environ.get(root):
            directory = Path(value).expanduser()
            if not directory.is_dir():
                raise AssetError(f"{root}={directory} is not a directory; correct the variable or unset it")
            yield directory / subdirectory, root, False
    yield HERE.absolute() / subdirectory, str(HERE), False
