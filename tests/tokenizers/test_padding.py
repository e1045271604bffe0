"""Batches of one length: A-TOK-1 to 3 of the original, and what cannot be."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from codex_jax.errors import ConfigError
from codex_jax.tokenizers import padding, training
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


pytestmark = pytest.mark.data

WORDS = training.train(["hello world"] * 2, 20, kind="whitespace")
TEXTS = ["one", "hello world", "a b c d e f g h i j", " ".join(map(str, range(50)))]


@pytest.mark.parametrize("kind", ["whitespace", "hf"])
def test_text_is_filled_up_to_the_length(kind: str) -> None:
    made = training.train(["hello world"] * 2, 20 if kind == "whitespace" else 300, kind=kind)
    batch = padding.encode(made, ["hello world"], 4)
    assert batch.ids_BL.shape == (1, 4)
    assert made.decode(batch.ids_BL[0].tolist()).startswith("hello")
    assert padding.decode(made, batch) == ["hello world"]


@pytest.mark.parametrize("length", [8, 16, 24, 32])
def test_every_row_has_the_length(length: int) -> None:
    batch = padding.encode(WORDS, TEXTS, length)
    assert batch.ids_BL.shape == batch.mask_BL.shape == (4, length)
    assert batch.mask_BL.sum(1).tolist() == [min(len(text.split()), length) for text in TEXTS]
    assert (batch.ids_BL[~batch.mask_BL] == WORDS.pad_id).all()


@pytest.mark.parametrize("length", [4, 6])
def test_truncation_alone_makes_no_row_longer(length: int) -> None:
    rows = padding.truncate(WORDS.encode(TEXTS), length)
    assert [row.size for row in rows] == [min(len(text.split()), length) for text in TEXTS]


def test_padded_ids_decode_to_the_text() -> None:
    vocab = {"[PAD]": 0, "hel": 1, "lo": 2, " co": 3, "dex": 4}
    inner = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[PAD]"))
    inner.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("hel|lo| co|dex"), "isolated")
    inner.decoder = tokenizers.decoders.Fuse()
    inner.add_special_tokens(["[PAD]"])
    made = JsonTokenizer(inner, Roles(pad="[PAD]"))
    batch = padding.encode(made, ["hello codex"], 6)
    assert batch.ids_BL.tolist() == [[1, 2, 3, 4, 0, 0]]
    assert padding.decode(made, batch) == ["hello codex"]


def test_end_token_fills_up_where_there_is_no_padding_token_and_the_mask_tells() -> None:
    made = training.train(["hello world"], 300)
    text = made.encode(["hello"])[0]
    batch = padding.pad_to([np.append(text, made.eos_id)], 30, made.eos_id)
    assert padding.encode(made, ["hello"], 30).ids_BL[0, -1] == made.eos_id
    assert padding.decode(made, batch) == ["hello<|endoftext|>"]


def test_batch_of_nothing_is_empty() -> None:
    assert padding.encode(WORDS, [], 4).ids_BL.shape == (0, 4)
    assert padding.encode(WORDS, [""], 4).mask_BL.tolist() == [[False] * 4]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="a row has 3 tokens, more than 2"):
        padding.pad_to([np.arange(3)], 2, 0)
    with pytest.raises(ConfigError, match="max_length=0"):
        padding.truncate([], 0)
    nothing = JsonTokenizer(WORDS._inner, Roles())  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="neither a padding nor an end token"):
        padding.encode(nothing, ["a"], 4)
