"""What the program needs of a tokenizer, and what a tokenizer.json describes.

The ids of text never contain a special token unless they are asked for: a document that spells out `<|endoftext|>`
gets the pieces of that spelling, so that no text can end its own document.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from codex_jax import atomic, digest
from codex_jax.errors import ConfigError


try:
    import tokenizers
except ImportError as error:
    raise ConfigError(f"tokenizers cannot be imported ({error}); pip install tokenizers") from error


class Tokenizer(Protocol):
    """Text to tokens and back."""

    @property
    def vocab_size(self) -> int:
        """Every id is below it; added tokens count."""

    @property
    def eos_id(self) -> int | None:
        """The token put after each document; like the other roles None, never 0, where there is none."""

    @property
    def pad_id(self) -> int | None:
        """The token that fills up rows."""

    @property
    def bos_id(self) -> int | None:
        """The token put before a text by those who want one."""

    @property
    def unk_id(self) -> int | None:
        """The token of what is not in the vocabulary."""

    @property
    def mask_id(self) -> int | None:
        """The token that stands for one to be guessed."""

    @property
    def roles(self) -> "Roles":
        """The names of the tokens with a role."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Every token that text does not become unless asked for, by name, in the order of ids."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what it does, chat template included: equal for tokenizers that do the same."""

    @property
    def chat_template(self) -> str | None:
        """The jinja template that turns messages into text, as transformers defines it; None where there is none."""

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32), nothing added around them.

        With `special` the names of special tokens in a text become their ids: for text of our own making only.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""

    def piece(self, index: int) -> str:
        """Return how the vocabulary writes a token."""

    def save(self, directory: Path) -> list[str]:
        """Write what `loading.load(directory)` reads, and return the names of the files."""


class Roles(NamedTuple):
    """Names of the tokens that have a role; None where there is none."""

    eos: str | None = None
    pad: str | None = None
    bos: str | None = None
    unk: str | None = None
    mask: str | None = None

    def facts(self) -> list[str | None]:
        """Return them for a digest, which is the same as it was before there were masks."""
        return list(self if self.mask else self[:-1])

    def settings(self, chat_template: str | None) -> dict[str, str]:
        """Return them, and the template, as a tokenizer_config.json has them."""
        found = {f"{role}_token": name for role, name in self._asdict().items()} | {"chat_template": chat_template}
        return {key: value for key, value in found.items() if value is not None}


class JsonTokenizer:
    """A tokenizer of the `tokenizers` library; can be sent to other processes."""

    def __init__(self, inner: tokenizers.Tokenizer, roles: Roles, chat_template: str | None = None) -> None:
        """Take over a tokenizer that has the tokens of `roles`."""
        inner.encode_special_tokens = True
        # A file may ask for both; they would cut documents and fill them up in silence.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self.roles = roles
        self.chat_template = chat_template
        ids = inner.get_vocab(with_added_tokens=True)
        numbers = (ids[name] if name else None for name in roles)
        self.eos_id, self.pad_id, self.bos_id, self.unk_id, self.mask_id = numbers
        added = sorted(inner.get_added_tokens_decoder().items())
        self.special_tokens: dict[str, int] = {token.content: index for index, token in added if token.special}
        # Ids may have gaps, so the number of tokens is not enough.
        self.vocab_size: int = max(ids.values()) + 1
        self.digest: str = digest.of_json([roles.facts(), chat_template, json.loads(inner.to_str())])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_text, (self._inner.to_str(), self.roles, self.chat_template)

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32); the names of special tokens become their ids with `special` only."""
        if special:
            return _ids(self._obeying, texts)
        found = _ids(self._inner, texts)
        if self._any_forbidden(found):
            # A model may have the name of a special token among its own words or pieces: such a text goes in parts.
            for index, text in enumerate(texts):
                if self._any_forbidden(found[index : index + 1]):
                    found[index] = np.concatenate(_ids(self._inner, self._inside_of_names.split(text)))
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""
        return self._inner.decode([int(index) for index in ids], skip_special_tokens=False)

    def piece(self, index: int) -> str:
        """Return how the vocabulary writes a token."""
        return self._inner.id_to_token(int(index)) or ""

    def save(self, directory: Path) -> list[str]:
        """Write tokenizer.json and tokenizer_config.json; TrainingStopped when the file system refuses."""
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self.roles.settings(self.chat_template)}
        files = {
            "tokenizer_config.json": json.dumps(settings, indent=2, sort_keys=True),
            "tokenizer.json": self._inner.to_str(pretty=True),
        }
        return write_files(directory, {name: text.encode() + b"\n" for name, text in files.items()})

    @functools.cached_property
    def _obeying(self) -> tokenizers.Tokenizer:
        """A copy that knows special tokens by name; the switch is a state, and threads share the other one."""
        copy = tokenizers.Tokenizer.from_str(self._inner.to_str())
        copy.encode_special_tokens = False
        return copy

    def _any_forbidden(self, rows: Sequence[np.ndarray]) -> bool:
        return len(rows) > 0 and bool(np.isin(np.concatenate(rows), self._forbidden).any())

    @functools.cached_property
    def _forbidden(self) -> np.ndarray:
        unknown = self.unk_id if self.unk_id != self.eos_id else None  # GPT-2's is its end
        return np.array([index for index in self.special_tokens.values() if index != unknown], np.int32)

    @functools.cached_property
    def _inside_of_names(self) -> re.Pattern[str]:
        """Matches between the first and the second character of each special token."""
        names = (name for name in self.special_tokens if len(name) > 1)
        return re.compile("|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names))


def write_files(directory: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files one by one, each whole or not at all, and return their names; TrainingStopped when that fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.refused(directory, error) from error
    for name, content in files.items():
        with atomic.replacing(directory / name) as file:
            file.write(content)
    return list(files)


def _ids(inner: tokenizers.Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    encodings = inner.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in encodings]


def _from_text(text: str, roles: Roles, chat_template: str | None) -> JsonTokenizer:
    return JsonTokenizer(tokenizers.Tokenizer.from_str(text), roles, chat_template)
