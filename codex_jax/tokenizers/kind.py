"""What a kind of tokenizer is, for the registry `codex_jax.tokenizers` and the packages that add to it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from codex_jax.tokenizers.tokenizer import Tokenizer


class Recipe(NamedTuple):
    """What decides, beside the text, how a tokenizer is trained; a kind reads what concerns it."""

    vocab_size: int
    algorithm: str
    """of SentencePiece: unigram or bpe"""
    character_coverage: float
    """of SentencePiece: share of the characters of the text that get pieces; the others become bytes"""


class Kind(NamedTuple):
    """How to get tokenizers of one kind."""

    summary: str
    load: Callable[[Path], Tokenizer]
    """of an existing path; AssetError when what lies there is not of this kind, or damaged"""
    train: Callable[[Iterable[str], Recipe], Tokenizer] | None = None
    make: Callable[[], Tokenizer] | None = None
    """of the kinds that need neither file nor text"""
