"""Byte-level BPE and whatever else a tokenizer.json can say: trained, from a file, or a directory of transformers.

`finish` is for other kinds as well.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from codex_jax import untrusted
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import beside
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


EOS_TOKEN = "<|endoftext|>"
# What GPT-2's vocabulary is in, and the slow tokenizers of transformers that are made like it.
VOCAB_FILES = ("vocab.json", "merges.txt")


def load(path: Path) -> JsonTokenizer:
    """Return the tokenizer of a tokenizer.json, or of a directory with one or with vocab.json and merges.txt.

    What transformers writes beside it counts: roles, added tokens, chat template.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        return load_vocab(path)
    return finish(_from_json(file), file.parent)


def load_vocab(path: Path) -> JsonTokenizer:
    """Return the tokenizer of a directory with GPT-2's two files, whatever else is in it."""
    missing = [name for name in VOCAB_FILES if not (path / name).is_file()]
    if missing:
        raise AssetError(f"{path} holds no {' and no '.join(missing)}: name a directory with both of GPT-2's files")
    return finish(_from_vocab(path), path)


def train(texts: Iterable[str], recipe: Recipe) -> JsonTokenizer:
    """Train a byte-level BPE: the same texts in the same order give the same tokenizer, in every process.

    All 256 bytes are in the vocabulary, so that any text can be encoded and comes back as it was; ConfigError when it
    has no room for them. Little text gives fewer than `vocab_size` tokens.
    """
    if recipe.vocab_size < 257:
        raise ConfigError(f"{recipe.vocab_size} tokens have no room for 256 bytes and an end token; the least is 257")
    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[EOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer)
    return JsonTokenizer(inner, Roles(eos=EOS_TOKEN))


def _byte_level(model: models.Model, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    inner.decoder = decoders.ByteLevel()
    return inner


def _from_json(path: Path) -> tokenizers.Tokenizer:
    text = untrusted.read_text(path, beside.MOST_BYTES)
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise AssetError(f"{path} is not a usable tokenizer.json: {error}; fetch or train it again") from error


def _from_vocab(path: Path) -> tokenizers.Tokenizer:
    vocab, merges = (path / name for name in VOCAB_FILES)
    for file in (vocab, merges):
        untrusted.check_size(file, beside.MOST_BYTES)
    try:
        model = models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:  # as above
        raise AssetError(f"{vocab} and {merges.name} are not a usable vocabulary: {error}; fetch them again") from error
    inner = _byte_level(model, bool(beside.settings(path).get("add_prefix_space")))
    inner.add_special_tokens([name for name in beside.EOS_NAMES if inner.token_to_id(name) is not None])
    return inner


def finish(inner: tokenizers.Tokenizer, directory: Path) -> JsonTokenizer:
    """Return a tokenizer with what transformers wrote beside its vocabulary."""
    _add(inner, directory)
    unknown = json.loads(inner.to_str())["model"].get("unk_token") or None
    roles = beside.roles(directory, lambda name: inner.token_to_id(name) is not None, Roles(unk=unknown))
    # A token with a role is a special one even where the file has it among the words.
    inner.add_special_tokens([name for name in dict.fromkeys(roles) if name and name != unknown])
    return JsonTokenizer(inner, roles, beside.chat_template(directory))


def _add(inner: tokenizers.Tokenizer, directory: Path) -> None:
    """Add the tokens that the files beside list and the vocabulary has not; AssetError when an id would be another."""
    for index, fields in beside.added_tokens(directory).items():
        known = inner.token_to_id(fields["content"])
        if known is None:
            token = tokenizers.AddedToken(**fields)
            (inner.add_special_tokens if token.special else inner.add_tokens)([token])
            known = inner.token_to_id(fields["content"])
        if known != index:
            raise AssetError(
                f"{directory} lists the added token {fields['content']!r} with id {index}, but the vocabulary "
                f"has it with id {known}; the files are of different tokenizers"
            )
