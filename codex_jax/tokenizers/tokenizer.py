"""What the program needs of a tokenizer, and the one kind there is so far: anything a tokenizer.json can describe.

The ids of text never contain a special token unless asked for: a document that spells out `<|endoftext|>` gets the
pieces of that spelling, so that no text can end its own document.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tokenizers

from codex_jax import atomic, digest


class ChatTemplate(NamedTuple):
    """How a chat is written down."""

    text: str = ""
    """a jinja template as transformers defines it; empty: none"""
    tokens: tuple[tuple[str, str], ...] = ()
    """the special tokens it may name, as bos_token and its spelling"""


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
        """SHA-256 of the end token and the canonical JSON of the tokenizer: equal for tokenizers that do the same."""

    @property
    def chat_template(self) -> ChatTemplate:
        """The template that came with the tokenizer."""

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32); with `special` the special tokens spelt out in it are those tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids."""

    def save(self, directory: Path) -> None:
        """Write what `loading.load(directory)` reads."""


# What the token after a document is called, in the order they are looked for.
EOS_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[EOS]")


_NO_TEMPLATE = ChatTemplate()


class JsonTokenizer:
    """A tokenizer of the `tokenizers` library; can be sent to other processes."""

    def __init__(self, inner: tokenizers.Tokenizer, eos_token: str, chat_template: ChatTemplate = _NO_TEMPLATE) -> None:
        """Take over a tokenizer that has `eos_token`."""
        inner.encode_special_tokens = True
        # A file may ask for both; they would cut documents and fill them up in silence.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        # A copy: the switch belongs to the tokenizer, and two threads may ask for one each.
        self._special = tokenizers.Tokenizer.from_str(inner.to_str())
        self._special.encode_special_tokens = False
        tokens = {"eos_token": eos_token, **dict(chat_template.tokens)}
        self.chat_template = chat_template._replace(tokens=tuple(sorted(tokens.items())))
        self._eos_token = eos_token
        self.eos_id = inner.get_vocab(with_added_tokens=True)[eos_token]
        # Ids may have gaps, so the number of tokens is not enough.
        self.vocab_size: int = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        self.digest: str = digest.of_json([eos_token, json.loads(inner.to_str())])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_text, (self._inner.to_str(), self._eos_token, self.chat_template)

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of each text (int32); with `special` the special tokens spelt out in it are those tokens."""
        inner = self._special if special else self._inner
        encodings = inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""
        return self._inner.decode([int(index) for index in ids], skip_special_tokens=False)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; TrainingStopped when the file system refuses."""
        template = {"chat_template": self.chat_template.text} if self.chat_template.text else {}
        names = {**dict(self.chat_template.tokens), "eos_token": self._eos_token, **template}
        settings = json.dumps({**names, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2)
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


def _from_text(text: str, eos_token: str, chat_template: ChatTemplate) -> JsonTokenizer:
    return JsonTokenizer(tokenizers.Tokenizer.from_str(text), eos_token, chat_template)
