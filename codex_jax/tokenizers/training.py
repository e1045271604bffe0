"""A byte-level BPE trained on text, and the cache that makes it a matter of once."""

import fcntl
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from codex_jax import atomic, cache, digest
from codex_jax.errors import AssetError
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.tokenizer import JsonTokenizer


EOS_TOKEN = "<|endoftext|>"
# What `JsonTokenizer.save` writes.
FILES = ("tokenizer.json", "tokenizer_config.json")
logger = logging.getLogger(__name__)


def train(texts: Iterable[str], vocab_size: int) -> JsonTokenizer:
    """Train a byte-level BPE: the same texts in the same order give the same tokenizer, in every process.

    All 256 bytes are in the vocabulary, so that any text can be encoded and comes back as it was. Little text gives
    fewer than `vocab_size` tokens.
    """
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer)
    return JsonTokenizer(inner, EOS_TOKEN)


def cached(make_texts: Callable[[], Iterable[str]], vocab_size: int, content: dict[str, Any]) -> JsonTokenizer:
    """Return the tokenizer trained on these texts, from the cache when it is there.

    `content` is everything that decides what `make_texts` yields; it must hold a digest of the sources. An entry that
    does not match its manifest is reported, removed and trained again.
    """
    content = {**content, "vocab_size": vocab_size, "tokenizers": tokenizers.__version__}
    root = cache.directory("tokenizers")
    entry = root / digest.of_json(content)
    with open(root / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first one's tokenizer instead of training it too
        found = _read(entry, content)
        return _write(train(make_texts(), vocab_size), entry, content) if found is None else found


def _write(made: JsonTokenizer, entry: Path, content: dict[str, Any]) -> JsonTokenizer:
    made.save(entry)
    files = {name: digest.of_file(entry / name) for name in FILES}
    manifest = {"tokenizer": made.digest, "files": files, "content": content}
    with atomic.replacing(entry / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n")
    return made


def _read(entry: Path, content: dict[str, Any]) -> JsonTokenizer | None:
    """Return the entry, or None when it is not there (yet); the manifest is written last, so it decides."""
    manifest = entry / "manifest.json"
    if not manifest.is_file():
        return None
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))
        changed = [name for name, expected in listed["files"].items() if digest.of_file(entry / name) != expected]
        problem = f"{', '.join(changed)} differs from the manifest" if changed else ""
        found = loading.load(entry)
        if not problem and found.digest == listed["tokenizer"] and listed["content"] == content:
            return found
        problem = problem or "manifest.json names another tokenizer"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssetError) as error:
        problem = str(error)
    logger.warning("the cached tokenizer %s is damaged (%s): it is removed and trained again", entry, problem)
    for name in ("manifest.json", *FILES):
        (entry / name).unlink(missing_ok=True)
    return None
