"""SentencePiece: the ids of the library, tokens added behind the pieces, damage named."""

import json
from pathlib import Path

import kinds_examples
import pytest
import sentencepiece as library

from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, sentencepiece, training


pytestmark = pytest.mark.data

MADE = kinds_examples.LOSSLESS["unigram"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    MADE.save(tmp_path)
    return tmp_path / "tokenizer.model"


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_ids_are_those_of_the_library(tmp_path: Path, algorithm: str) -> None:
    kinds_examples.LOSSLESS[algorithm].save(tmp_path)
    processor = library.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    loaded = loading.load(tmp_path / "tokenizer.model")
    for text in [*kinds_examples.TEXTS, *(text for text in kinds_examples.HARD.values() if "\u2581" not in text)]:
        assert loaded.encode([text])[0].tolist() == processor.encode(text)
    assert loaded.vocab_size == processor.get_piece_size()
    assert (loaded.pad_id, loaded.unk_id, loaded.bos_id, loaded.eos_id) == (0, 1, 2, 3)


def test_model_that_normalises_keeps_the_ids_of_the_library(tmp_path: Path) -> None:
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world again"] * 9),
        model_prefix=str(tmp_path / "foreign"),
        vocab_size=20,
        eos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = library.SentencePieceProcessor(model_file=str(tmp_path / "foreign.model"))
    loaded = loading.load(tmp_path)
    for text in ("hello  world", "\u2581hello", "\tworld\r\n", "xyz"):
        assert loaded.encode([text])[0].tolist() == processor.encode(text)
        assert loaded.decode(processor.encode(text)) == processor.decode(processor.encode(text))
    assert (loaded.eos_id, loaded.pad_id) == (None, None)


def test_end_token_that_the_library_finds_in_text_is_spelt_out(tmp_path: Path) -> None:
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(kinds_examples.TEXTS),
        model_prefix=str(tmp_path / "chat"),
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<|end|>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    loaded = loading.load(tmp_path)
    processor = library.SentencePieceProcessor(model_file=str(tmp_path / "chat.model"))
    assert loaded.eos_id == processor.encode("<|end|>")[-1]
    (ids,), (asked,) = loaded.encode(["a<|end|>b"]), loaded.encode(["a<|end|>b"], special=True)
    assert loaded.eos_id not in ids and asked.tolist().count(loaded.eos_id) == 1
    assert loaded.decode(ids) == loaded.decode(asked) == "a<|end|>b"


def test_added_tokens_go_behind_the_pieces_and_stay(model: Path) -> None:
    size = MADE.vocab_size
    assert sentencepiece.add_special_tokens(model, ["<b>", "<a>"]) == {"<b>": size, "<a>": size + 1}
    sidecar = model.with_name("tokenizer.special_tokens.json")
    before = (sidecar.read_bytes(), sidecar.stat().st_mtime_ns)
    assert list(json.loads(before[0])) == ["<a>", "<b>"]
    assert sentencepiece.add_special_tokens(model, ["<a>", "<b>"]) == {"<b>": size, "<a>": size + 1}
    assert (sidecar.read_bytes(), sidecar.stat().st_mtime_ns) == before
    assert sentencepiece.add_special_tokens(model, ["<c>", "<a>"])["<c>"] == size + 2
    loaded = loading.load(model.parent)
    assert loaded.vocab_size == size + 3 and loaded.digest != MADE.digest
    (ids,) = loaded.encode(["x<b><a>"], special=True)
    assert ids.tolist()[-2:] == [size, size + 1] and loaded.decode(ids.tolist()) == "x<b><a>"
    assert loaded.encode(["x<b>"])[0].max() < size
    loaded.save(model.parent / "again")
    assert loading.load(model.parent / "again").digest == loaded.digest


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"<a>": 500, "<b>": 500}, "'<b>' and '<a>' have the same id 500"),
        ({"<a>": 7}, "'<a>' has the id 7, which is '<0x03>' in the model"),
        ({"<a>": "500"}, "expected a name and a whole number"),
        ({"": 500}, "expected a name and a whole number"),
        ([], "not a JSON object"),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(model: Path, content: object, says: str) -> None:
    model.with_name("tokenizer.special_tokens.json").write_text(json.dumps(content))
    with pytest.raises(AssetError, match=says):
        loading.load(model.parent)
    with pytest.raises(AssetError, match=says):
        sentencepiece.add_special_tokens(model, ["<c>"])


@pytest.mark.parametrize("token", ["", 7, None])
def test_added_token_that_is_no_text_is_refused(model: Path, token: object) -> None:
    with pytest.raises(ConfigError, match="at least one character"):
        sentencepiece.add_special_tokens(model, [token])  # type: ignore[list-item]


def test_piece_of_the_model_is_not_added_again(model: Path) -> None:
    with pytest.raises(ConfigError, match="'</s>' is token 3 of"):
        sentencepiece.add_special_tokens(model, ["<a>", "</s>"])


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model at all", b"{}"])
def test_damaged_model_is_named(model: Path, content: bytes) -> None:
    model.write_bytes(content)
    with pytest.raises(AssetError, match=r"tokenizer\.model is not a usable SentencePiece model"):
        loading.load(model.parent)


def test_vocabulary_without_room_for_the_bytes_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"cannot train 200 tokens \(unigram\).*raise the size"):
        training.train(kinds_examples.TEXTS, 200, kind="sentencepiece")
