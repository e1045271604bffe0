"""WordPiece: a vocab.txt alone does what transformers' own tokenizer does, and training gives one result."""

import json
import multiprocessing
from pathlib import Path

import pytest

from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, training


pytestmark = pytest.mark.data

TEXTS = [
    "The cats sat on a Mat.",
    "don't unhappily re-read Ünïcödé straße",
    "你好 world\t\n again",
    "x" * 120,
    "[SEP] [MASK]",
]
LINE = "the cat ##s sat on a mat . don ' t un ##hap ##pi ##ly re - read unicode stra ##ße 你 好 world again"
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LINE.split()]


def write(directory: Path, names: list[str], settings: dict[str, object] | None = None) -> Path:
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    if settings is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.mark.parametrize("settings", [{"do_lower_case": True}, {"do_lower_case": False}, {"strip_accents": False}])
def test_a_vocabulary_alone_gives_the_ids_of_transformers(tmp_path: Path, settings: dict[str, object]) -> None:
    import transformers

    directory = write(tmp_path / "bert", VOCAB, settings)
    reference = transformers.BertTokenizer.from_pretrained(directory)
    made = loading.load(directory)
    expected = [reference(text, add_special_tokens=False)["input_ids"] for text in TEXTS[:4]]
    assert [ids.tolist() for ids in made.encode(TEXTS[:4])] == expected
    assert (made.pad_id, made.unk_id, made.bos_id, made.eos_id, made.mask_id) == (0, 1, 2, 3, 4)


def test_case_follows_the_vocabulary_where_no_file_says_it(tmp_path: Path) -> None:
    lower = loading.load(write(tmp_path / "lower", VOCAB))
    cased = loading.load(write(tmp_path / "cased", [*VOCAB, "Mat"]))
    assert lower.encode(["Mat"])[0].tolist() == [VOCAB.index("mat")]
    assert cased.encode(["Mat"])[0].tolist() == [len(VOCAB)]


def test_masks_in_a_text_are_masks_only_where_they_are_meant(tmp_path: Path) -> None:
    made = loading.load(write(tmp_path / "bert", VOCAB))
    assert not {3, 4} & set(made.encode(["[SEP] [MASK]"])[0].tolist())
    assert made.encode(["[SEP] [MASK]"], special=True)[0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("names", "said"),
    [(VOCAB[1:], r"has no \[PAD\]"), ([*VOCAB, "cat"], "1 pieces twice")],
)
def test_a_vocabulary_of_something_else_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(AssetError, match=said):
        loading.load(write(tmp_path / "bert", names))


def digest_of_training(_: int) -> str:
    return training.train(TEXTS * 20, 150, kind="wordpiece").digest


def test_training_gives_the_same_tokenizer_in_every_process_and_it_is_found_again(tmp_path: Path) -> None:
    made = training.train(TEXTS * 20, 150, kind="wordpiece")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(digest_of_training, range(2))) == {made.digest}
    made.save(tmp_path / "saved")
    assert loading.load(tmp_path / "saved").digest == made.digest
    assert made.decode(made.encode(["the cats sat"])[0]) == "the cats sat"
    with pytest.raises(ConfigError, match="have no room for the"):
        training.train(TEXTS, 20, kind="wordpiece")
