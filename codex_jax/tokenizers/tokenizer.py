"""What the program needs of a tokenizer, and the one kind there is so far: anything a tokenizer.json can describe.

The ids of text never contain a special token: a document that spells out `<|endoftext|>` gets the pieces of that
spelling, so that no text can end its own document.
"""

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
        """SHA-256 of the end token and the canonical JSON of the tokenizer: equal for tokenizers that do the same."""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text (int32), no special tokens among or around them."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids."""

    def save(self, directory: Path) -> None:
        """Write what `loading.load(directory)` reads."""


# What the token after a document is called, in the order they are looked for.
EOS_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[EOS]")


class JsonTokenizer:
    """A tokenizer of the `tokenizers` library; can be sent to other processes."""

    def __init__(self, inner: tokenizers.Tokenizer, eos_token: str) -> None:
        """Take over a tokenizer that has `eos_token`."""
        inner.encode_special_tokens = True
        # A file may ask for both; they would cut documents and fill them up in silence.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._eos_token = eos_token
        self.eos_id = inner.get_vocab(with_added_tokens=True)[eos_token]
        # Ids may have gaps, so the number of tokens is not enough.
        self.vocab_size: int = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        self.digest: str = digest.of_json([eos_token, json.loads(inner.to_str())])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_text, (self._inner.to_str(), self._eos_token)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text (int32), no special tokens among or around them."""
        encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special tokens spelt out."""
        return self._inner.decode([int(index) for index in ids], skip_special_tokens=False)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; TrainingStopped when the file system refuses."""
        settings = json.dumps({"eos_token": self._eos_token, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2)
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


def _from_text(text: str, eos_token: str) -> JsonTokenizer:
    return JsonTokenizer(tokenizers.Tokenizer.from_str(text), eos_token)
