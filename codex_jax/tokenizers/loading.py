"""Tokenizers from files: tokenizer.json, a directory with one, or one with GPT-2's vocab.json and merges.txt."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from codex_jax.errors import AssetError
from codex_jax.tokenizers.tokenizer import EOS_NAMES, ChatTemplate, JsonTokenizer


def load(path: Path) -> JsonTokenizer:
    """Return the tokenizer at `path`; AssetError, saying what was looked for, when it is missing or damaged.

    The token after a document is the `eos_token` of a tokenizer_config.json beside it, else the first of EOS_NAMES.
    """
    path = path.expanduser()
    try:
        if path.is_dir():
            return _from_directory(path)
        if path.is_file():
            return _finish(_from_json(path), path, path.parent)
    except OSError as error:
        raise AssetError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    raise AssetError(
        f"tokenizer.path={path} does not exist; name a tokenizer.json, a directory with one, "
        "or a directory with vocab.json and merges.txt"
    )


def _from_directory(path: Path) -> JsonTokenizer:
    if (path / "tokenizer.json").is_file():
        return _finish(_from_json(path / "tokenizer.json"), path / "tokenizer.json", path)
    vocab, merges = path / "vocab.json", path / "merges.txt"
    if vocab.is_file() and merges.is_file():
        return _finish(_from_vocab_and_merges(vocab, merges), path, path)
    raise AssetError(f"{path} holds no tokenizer: looked for tokenizer.json, then for vocab.json with merges.txt")


def _from_json(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise AssetError(f"{path} is not a usable tokenizer.json: {error}; fetch or train it again") from error


def _from_vocab_and_merges(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    try:
        inner = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # as above
        raise AssetError(f"{vocab} and {merges.name} are not a usable vocabulary: {error}; fetch them again") from error
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([name for name in EOS_NAMES if inner.token_to_id(name) is not None])
    return inner


def _finish(inner: tokenizers.Tokenizer, path: Path, directory: Path) -> JsonTokenizer:
    settings = _settings(directory / "tokenizer_config.json")
    named = _spelling(settings.get("eos_token"))
    for name in (named,) if named else EOS_NAMES:
        if inner.token_to_id(name) is not None:
            return JsonTokenizer(inner, name, _chat_template(settings, directory / "chat_template.jinja"))
    if named:
        raise AssetError(f"tokenizer_config.json beside {path} names eos_token {named!r}, which {path} does not have")
    raise AssetError(
        f"{path} has no token that ends a document: looked for {', '.join(EOS_NAMES)}; "
        "add one of them, or name it as eos_token in a tokenizer_config.json beside it"
    )


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise AssetError(f"{path} is not a JSON object: {error}; repair or remove it") from error


def _spelling(token: Any) -> str:
    # Older files write an added token as an object.
    return str((token.get("content") if isinstance(token, dict) else token) or "")


def _chat_template(settings: dict[str, Any], path: Path) -> ChatTemplate:
    """Return the template of a file of its own, where newer versions of transformers put it, or of the settings."""
    text = path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template") or ""
    if isinstance(text, list):  # several by name, of which one is for chats without tools
        text = {entry["name"]: entry["template"] for entry in text}.get("default", "")
    tokens = {name: _spelling(value) for name, value in settings.items() if name.endswith("_token")}
    return ChatTemplate(text, tuple(sorted((name, token) for name, token in tokens.items() if token)))
