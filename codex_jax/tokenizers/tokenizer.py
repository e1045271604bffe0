"""What the program needs of a tokenizer, and the one kind there is so far: anything a tokenizer.json can describe.

The ids of text never contain a special token unless they are asked for: a document that spells out `<|endoftext|>`
gets the pieces of that spelling, so that no text can end its own document.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers

from codex_jax import atomic, digest


class Tokenizer(Protocol):
    """Text to tokens and back."""

    @property
    def vocab_size(self) -> int:
        """Every id is below it; added tokens count."""

    @property
    def eos_id(self) -> int:
        """The token put after each document."""

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
        """Return the text of some ids."""

    def save(self, directory: Path) -> None:
        """Write what `loading.load(directory)` reads."""


# What the token after a document is called, in the order they are looked for.
EOS_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[EOS]")


class JsonTokenizer:
    """A tokenizer of the `tokenizers` library; can be sent to other processes."""

    def __init__(self, inner: tokenizers.Tokenizer, eos_token: str, chat_template: str | None = None) -> None:
        """Take over a tokenizer that has `eos_token`."""
        inner.encode_special_tokens = True
        # A file may ask for both; they would cut documents and fill them up in silence.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._eos_token = eos_token
        self.chat_template = chat_template
        self.eos_id = inner.get_vocab(with_added_tokens=True)[eos_token]
        # Ids may have gaps, so the number of tokens is not enough.
        self.vocab_size: int = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        self.digest: str = digest.of_json([eos_token, chat_template, json.loads(inner.to_str())])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_text, (self._inner.to_str(), self._eos_token, self.chat_template)

    @functools.cached_property
    def _obeying(self) -> tokenizers.Tokenizer:
        """A copy that knows special tokens by name; the switch is a state, and threads share the other one."""
        copy = tokenizers.Tokenizer.from_str(self._inner.to_str())
        copy.encode_special_tokens = False
        return copy

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32); the names of special tokens become their ids with `special` only."""
        inner = self._obeying if special else self._inner
        encodings = inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""
        return self._inner.decode([int(index) for index in ids], skip_special_tokens=False)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; TrainingStopped when the file system refuses."""
        named = {"eos_token": self._eos_token, "tokenizer_class": "PreTrainedTokenizerFast"}
        settings = json.dumps(named | ({"chat_template": self.chat_template} if self.chat_template else {}), indent=2)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.refused(directory, error) from error
        for name, text in (
            ("tokenizer_config.json", settings),
            ("tokenizer.json", self._inner.to_str(pretty=True)),
        ):
            with atomic.replacing(directory / name) as file:
                file.write(text.encode() + b"\n")


def _from_text(text: str, eos_token: str, chat_template: str | None) -> JsonTokenizer:
    return JsonTokenizer(tokenizers.Tokenizer.from_str(text), eos_token, chat_template)
