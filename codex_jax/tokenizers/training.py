"""Tokenizers made from text: of a run's data, kept in a cache, or of files, kept where the user says."""

import dataclasses
import fcntl
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from codex_jax import cache, digest
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, manifest
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.kinds import KINDS
from codex_jax.tokenizers.lines import Lines
from codex_jax.tokenizers.tokenizer import Tokenizer


ALGORITHMS = ("unigram", "bpe")
# Of the original's trainer: Chinese characters beyond it become bytes, Latin ones hardly ever.
CHARACTER_COVERAGE = 0.9995
logger = logging.getLogger(__name__)


def train(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: str = "hf",
    algorithm: str = "unigram",
    character_coverage: float = CHARACTER_COVERAGE,
) -> Tokenizer:
    """Train a tokenizer of some kind: the same texts in the same order give the same one, in every process."""
    return trainer_of(kind)(texts, Recipe(vocab_size, algorithm, character_coverage))


def trainer_of(kind: str) -> Callable[[Iterable[str], Recipe], Tokenizer]:
    """Return how a kind is trained; ConfigError when it cannot be."""
    trainer = KINDS.get(kind).train
    if trainer is None:
        raise ConfigError(f"tokenizers of kind {kind} are not trained: name its files, or choose another kind")
    return trainer


def cached(
    make_texts: Callable[[], Iterable[str]],
    vocab_size: int,
    content: dict[str, Any],
    *,
    kind: str = "hf",
    algorithm: str = "unigram",
) -> Tokenizer:
    """Return the tokenizer trained on these texts, from the cache when it is there.

    `content` is everything that decides what `make_texts` yields; it must hold a digest of the sources. An entry that
    does not match its manifest is reported, removed and trained again.
    """
    content = {**content, "vocab_size": vocab_size, "kind": kind, "versions": manifest.versions()}
    if kind == "sentencepiece":
        content["algorithm"] = algorithm
    root = cache.directory("tokenizers")
    entry = root / digest.of_json(content)
    with open(root / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first one's tokenizer instead of training it too
        found = _read(entry, content)
        if found is None:
            found = train(make_texts(), vocab_size, kind=kind, algorithm=algorithm)
            manifest.write(entry, found, found.save(entry), {"content": content})
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A tokenizer to be trained on files."""

    lines: Lines
    kind: str
    recipe: Recipe
    seed: int
    """decides which texts are drawn where there are more than `train_bytes`"""
    train_bytes: int

    def config(self) -> dict[str, Any]:
        """Return what decides the result beside the text: nothing of it depends on time or place."""
        config = {
            "kind": self.kind,
            "vocab_size": self.recipe.vocab_size,
            "seed": self.seed,
            "train_bytes": self.train_bytes,
            "streaming": True,
            "chunk_bytes": self.lines.chunk_bytes,
        }
        if self.kind == "sentencepiece":
            config |= {"algorithm": self.recipe.algorithm, "character_coverage": self.recipe.character_coverage}
        return config

    def plan(self) -> dict[str, Any]:
        """Return what would be done."""
        files = [str(path) for path in self.lines.files]
        return {"config": self.config(), "corpus": {"files": files, "bytes": self.lines.num_bytes()}}

    def run(self, directory: Path, *, force: bool) -> Tokenizer:
        """Train, and write the tokenizer with its manifest; AssetError when something is there, unless `force`."""
        trainer, lines = trainer_of(self.kind), self.lines
        refuse_to_overwrite(directory, force=force)
        made = trainer(lines.sample(self.train_bytes, self.seed), self.recipe)
        remove(directory)
        corpus = {"sha256": lines.digest(), "files": len(lines.files), "bytes": lines.num_bytes()}
        manifest.write(directory, made, made.save(directory), {"config": self.config(), "corpus": corpus})
        return made


def refuse_to_overwrite(directory: Path, *, force: bool) -> None:
    """Raise AssetError when there is something in the directory, unless `force`."""
    if not force and directory.exists() and any(directory.iterdir()):
        raise AssetError(f"{directory} is not empty; choose another directory, or --force to replace its tokenizer")


def remove(directory: Path) -> None:
    """Remove the tokenizer whose manifest is in the directory, the manifest first, and nothing else."""
    for name in (manifest.NAME, *manifest.read(directory).get("files", {})):
        (directory / name).unlink(missing_ok=True)


def _read(entry: Path, content: dict[str, Any]) -> Tokenizer | None:
    """Return the entry, or None when it is not there (yet); the manifest is written last, so it decides."""
    if not (entry / manifest.NAME).is_file():
        return None
    try:
        found, listed = loading.load(entry), manifest.read(entry)
        if listed and (listed["tokenizer"], listed["content"]) == (found.digest, content):
            return found
        problem = f"{manifest.NAME} names another tokenizer"
    except (KeyError, AssetError) as error:
        problem = str(error)
    logger.warning("the cached tokenizer %s is damaged (%s): it is removed and trained again", entry, problem)
    shutil.rmtree(entry)
    return None
