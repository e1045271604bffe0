"""SentencePiece models: the ids that the library itself gives, and tokens added behind them.

Added tokens live in `<model>.special_tokens.json` beside the model, since a model cannot be extended.
"""

import functools
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from codex_jax import digest, untrusted
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import beside
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.tokenizer import Roles, write_files


# What the library writes for a blank, and therefore reads as one.
_BLANK = "\u2581"
_PROBE = " \t a\r\n  b\0 "


class SentencePieceTokenizer:
    """A SentencePiece model; can be sent to other processes.

    Its ids are those of the library for every text but two: a model that loses nothing else would turn U+2581 into a
    blank, and gets it as bytes; a token with a role that the library finds in text, too, is spelt out.
    """

    def __init__(self, model: bytes, added: Mapping[str, int], roles: Roles, chat_template: str | None = None) -> None:
        """Read a model; `added` are the tokens behind its pieces."""
        self._processor = _library().SentencePieceProcessor(model_proto=model)
        self._model, self._added = model, dict(added)
        self.roles = roles
        self.chat_template = chat_template
        ids = [self._id(name) for name in roles]
        self.eos_id, self.pad_id, self.bos_id, self.unk_id, self.mask_id = ids
        size = self._processor.get_piece_size()
        control = {self._processor.id_to_piece(i): i for i in range(size) if self._processor.is_control(i)}
        pairs = ((name, index) for name, index in zip(roles, ids, strict=True) if name != roles.unk)
        named = {name: index for name, index in pairs if name is not None and index is not None}
        special = {**control, **named, **self._added}
        self.special_tokens: dict[str, int] = dict(sorted(special.items(), key=lambda item: item[1]))
        self.vocab_size: int = max([size - 1, *self._added.values()]) + 1
        self.digest: str = digest.of_json([roles.facts(), chat_template, digest.of_bytes(model), self._added])

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, (self._model, self._added, self.roles, self.chat_template)

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32); the names of special tokens become their ids with `special` only."""
        known = self._literal | ({name: [i] for name, i in self.special_tokens.items()} if special else {})
        names = sorted(known, key=len, reverse=True)
        between = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
        parts = [between.split(text) if between else [text] for text in texts]
        # The word of the other library that processes among several are told to keep to their own core with.
        num_threads = 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else -1
        plain = [part for text in parts for part in text[::2]]
        found = iter(self._processor.encode(plain, num_threads=num_threads))
        return [
            np.array([i for n, part in enumerate(text) for i in (known[part] if n % 2 else next(found))], np.int32)
            for text in parts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""
        names = {index: name for name, index in self.special_tokens.items()}
        runs = itertools.groupby((int(index) for index in ids), key=lambda index: index in names)
        return "".join(
            "".join(names[index] for index in run) if is_special else self._processor.decode(list(run))
            for is_special, run in runs
        )

    def piece(self, index: int) -> str:
        """Return how the vocabulary writes a token."""
        if index < self._processor.get_piece_size():
            return str(self._processor.id_to_piece(int(index)))
        return next((name for name, added in self._added.items() if added == index), "")

    def save(self, directory: Path) -> list[str]:
        """Write tokenizer.model and what belongs to it; TrainingStopped when the file system refuses."""
        settings = self.roles.settings(self.chat_template)
        files = {"tokenizer_config.json": _json(settings), "tokenizer.model": self._model}
        if self._added:
            files = {"tokenizer.special_tokens.json": _json(self._added), **files}
        return write_files(directory, files)

    def _id(self, name: str | None) -> int | None:
        if name is None:
            return None
        return self._added[name] if name in self._added else int(self._processor.piece_to_id(name))

    @functools.cached_property
    def _literal(self) -> dict[str, list[int]]:
        """The ids of what the library must not be left to read in a text."""
        names = (name for name, index in self.special_tokens.items() if self._finds(index) and len(name) > 1)
        found = {name: [i for half in (name[0], name[1:]) for i in self._processor.encode(half)] for name in names}
        blank = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in _BLANK.encode()]
        is_lossless = self._processor.decode(self._processor.encode(_PROBE)) == _PROBE
        return found | ({_BLANK: blank} if is_lossless and all(map(self._processor.is_byte, blank)) else {})

    def _finds(self, index: int) -> bool:
        """Whether the library turns text into a token: it never does for control tokens, and knows no added ones."""
        return index < self._processor.get_piece_size() and not self._processor.is_control(index)


def load(path: Path) -> SentencePieceTokenizer:
    """Return the tokenizer of a .model file, or of a directory with one, and of the files beside it."""
    file = find_model(path)
    if file is None:
        raise AssetError(f"{path} holds no SentencePiece model: looked for one .model file")
    model = untrusted.read_bytes(file, beside.MOST_BYTES)
    processor = _open(file, model)
    added = _read_added(file, processor)
    own = {"eos": processor.eos_id(), "pad": processor.pad_id(), "bos": processor.bos_id(), "unk": processor.unk_id()}
    defaults = Roles(**{role: processor.id_to_piece(index) if index >= 0 else None for role, index in own.items()})
    unknown = processor.unk_id()
    roles = beside.roles(
        file.parent,
        lambda name: name in added or name == defaults.unk or processor.piece_to_id(name) != unknown,
        defaults,
    )
    return SentencePieceTokenizer(model, added, roles, beside.chat_template(file.parent))


def find_model(path: Path) -> Path | None:
    """Return the .model file at a path or in a directory; None when there is none, or more than one."""
    found = (
        [path]
        if path.suffix == ".model" and path.is_file()
        else sorted(one for one in path.glob("*.model") if one.is_file())
    )
    return found[0] if len(found) == 1 else None


def train(texts: Iterable[str], recipe: Recipe) -> SentencePieceTokenizer:
    """Train a model that gives every text back: nothing is normalised, and rare characters are bytes.

    Little text gives fewer than `vocab_size` tokens. ConfigError when the vocabulary is too small for the characters.
    """
    model = io.BytesIO()
    failures: list[BaseException] = []
    try:
        _library().SentencePieceTrainer.train(
            sentence_iterator=_noting(texts, failures),
            model_writer=model,
            model_type=recipe.algorithm,
            vocab_size=recipe.vocab_size,
            character_coverage=recipe.character_coverage,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            byte_fallback=True,
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            required_chars="\n\t",
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            num_threads=4,  # the sums, and with them the pieces, depend on it: the same on every machine
            max_sentence_length=2**30,  # the most it takes; longer texts would be left out in silence
            minloglevel=2,
        )
    except RuntimeError as error:
        if failures:
            raise failures[0] from None
        raise ConfigError(
            f"sentencepiece cannot train {recipe.vocab_size} tokens ({recipe.algorithm}): {error}; raise the size "
            "of the vocabulary, or give it more text"
        ) from error
    roles = Roles(eos="</s>", pad="<pad>", bos="<s>", unk="<unk>")
    return SentencePieceTokenizer(model.getvalue(), {}, roles)


def _noting(texts: Iterable[str], failures: list[BaseException]) -> Iterator[str]:
    """Yield the texts; what goes wrong with them is kept, since the library makes a RuntimeError of everything."""
    try:
        yield from texts
    except BaseException as error:
        failures.append(error)
        raise


def add_special_tokens(model: Path, tokens: Sequence[str]) -> dict[str, int]:
    """Give tokens ids behind those of the model, in a file beside it, and return the ids of all that were ever added.

    A token that was added before keeps its id, and nothing is written then. AssetError when the file beside the model
    gives one id twice or to a piece; ConfigError for a token that is no text, or a piece of the model.
    """
    if wrong := [token for token in tokens if not isinstance(token, str) or not token]:
        raise ConfigError(f"special tokens are texts of at least one character, not {wrong[0]!r}")
    processor = _open(model, model.read_bytes())
    if pieces := [token for token in tokens if processor.piece_to_id(token) != processor.unk_id()]:
        raise ConfigError(f"{pieces[0]!r} is token {processor.piece_to_id(pieces[0])} of {model} already")
    added = _read_added(model, processor)
    free = max([processor.get_piece_size() - 1, *added.values()]) + 1
    fresh = [token for token in dict.fromkeys(tokens) if token not in added]
    if fresh:
        added |= {token: free + index for index, token in enumerate(fresh)}
        write_files(model.parent, {sidecar(model).name: _json(added)})
    return added


def _open(path: Path, model: bytes) -> Any:
    processor = _library().SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)  # unlike the constructor it refuses an empty one
    except RuntimeError as error:
        raise AssetError(f"{path} is not a usable SentencePiece model: {error}; fetch or train it again") from error
    return processor


def sidecar(model: Path) -> Path:
    """Return where the added tokens of a model are."""
    return model.with_suffix(".special_tokens.json")


def _read_added(model: Path, processor: Any) -> dict[str, int]:
    path, size = sidecar(model), processor.get_piece_size()
    added: dict[str, int] = beside.read(path)
    owner: dict[int, str] = {}
    for token, index in added.items():
        if not token or type(index) is not int:
            raise AssetError(f"{path}: {token!r} has the id {index!r}; expected a name and a whole number")
        if index < size:
            piece = processor.id_to_piece(index) if index >= 0 else "nothing"
            raise AssetError(f"{path}: {token!r} has the id {index}, which is {piece!r} in the model of {size} pieces")
        if index in owner:
            raise AssetError(f"{path}: {token!r} and {owner[index]!r} have the same id {index}")
        owner[index] = token
    return dict(sorted(added.items(), key=lambda item: item[1]))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _library() -> ModuleType:
    try:
        import sentencepiece
    except ImportError as error:
        raise ConfigError(
            f"tokenizer.kind=sentencepiece needs the package sentencepiece ({error}); pip install sentencepiece"
        ) from error
    return sentencepiece
