"""Every kind of tokenizer: any text comes back from the lossless ones, ids are in range, copies do the same."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import kinds_examples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.kinds import KINDS
from codex_jax.tokenizers.tokenizer import Tokenizer


pytestmark = pytest.mark.data

EVERY = {**kinds_examples.LOSSLESS, "whitespace": kinds_examples.WORDS}


@pytest.mark.parametrize("name", kinds_examples.LOSSLESS)
@given(text=st.text())
@settings(deadline=None)
def test_lossless_kinds_give_back_any_text(name: str, text: str) -> None:
    gives_back(kinds_examples.LOSSLESS[name], text)


@pytest.mark.parametrize("name", kinds_examples.LOSSLESS)
@pytest.mark.parametrize("case", kinds_examples.HARD)
def test_lossless_kinds_give_back_hard_text(name: str, case: str) -> None:
    gives_back(kinds_examples.LOSSLESS[name], kinds_examples.HARD[case])


def gives_back(tokenizer: Tokenizer, text: str) -> None:
    for special in (False, True):
        (ids,) = tokenizer.encode([text], special=special)
        assert ids.dtype == "int32"
        assert ids.size == 0 or (ids.min() >= 0 and ids.max() < tokenizer.vocab_size)
        assert tokenizer.decode(ids.tolist()) == text
    control = {index for index in tokenizer.special_tokens.values() if index != tokenizer.unk_id}
    assert not control & set(tokenizer.encode([text])[0].tolist())


@pytest.mark.parametrize("name", EVERY)
def test_text_never_becomes_a_special_token_unless_asked(name: str) -> None:
    tokenizer = EVERY[name]
    control = {name: i for name, i in tokenizer.special_tokens.items() if i != tokenizer.unk_id}
    assert tokenizer.eos_id in control.values()
    text = " ".join(["a", *control, "b"])
    assert not set(control.values()) & set(tokenizer.encode([text])[0].tolist())
    found = tokenizer.encode([text], special=True)[0].tolist()
    assert [index for index in found if index in control.values()] == list(control.values())


@pytest.mark.parametrize("name", EVERY)
def test_saved_and_sent_tokenizer_does_the_same(name: str, tmp_path: Path) -> None:
    made = EVERY[name]
    files = made.save(tmp_path)
    assert sorted(files) == sorted(os.listdir(tmp_path))
    for other in (loading.load(tmp_path), pickle.loads(pickle.dumps(made))):
        assert other.digest == made.digest
        assert (other.vocab_size, other.special_tokens) == (made.vocab_size, made.special_tokens)
        assert (other.eos_id, other.pad_id, other.bos_id, other.unk_id) == (
            made.eos_id,
            made.pad_id,
            made.bos_id,
            made.unk_id,
        )
        for text in kinds_examples.TEXTS:
            assert other.encode([text])[0].tolist() == made.encode([text])[0].tolist()


def test_processes_with_other_hash_seeds_agree_on_every_digest() -> None:
    program = "import test_kinds; print([made.digest for made in test_kinds.EVERY.values()])"
    path = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[2])))
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        made = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert made.stdout.strip() == str([one.digest for one in EVERY.values()]), made.stderr


def test_byte_has_the_value_of_each_byte_as_id() -> None:
    tokenizer = EVERY["byte"]
    text = bytes(range(128)).decode() + "\u00e9\U0001f642"
    assert tokenizer.encode([text])[0].tolist() == list(text.encode())
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id) == (257, 256, None)


@pytest.mark.parametrize("kind", ["byte", "whitespace"])
def test_saved_tokenizer_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    EVERY[kind].save(tmp_path / "right")
    EVERY["hf"].save(tmp_path / "wrong")
    assert loading.load(tmp_path / "right", kind).digest == EVERY[kind].digest
    with pytest.raises(AssetError, match="is not"):
        loading.load(tmp_path / "wrong", kind)


def test_given_words_have_the_given_ids(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "hello": 2, "codex": 3, "world": 4}))
    words = loading.load(tmp_path / "words.json", "whitespace")
    (ids,) = words.encode(["hello world"])
    assert ids.tolist() == [2, 4] and words.decode(ids.tolist()) == "hello world"  # A-TOK-6
    assert words.encode(["hello  there\tworld <pad>"])[0].tolist() == [
        2,
        1,
        4,
        1,
        1,
    ]  # the name of a special token goes in two parts
    assert (words.pad_id, words.unk_id, words.bos_id, words.eos_id, words.vocab_size) == (0, 1, None, None, 5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "not a JSON object"),
        ('{"a": 0}', "no word for what it does not know"),
        ('{"<unk>": 0, "a": 0}', "one id to two words"),
        ('{"<unk>": 0, "a": -1}', "whole numbers from 0"),
    ],
)
def test_given_words_that_cannot_be_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(AssetError, match=says):
        loading.load(tmp_path / "words.json", "whitespace")


def test_trained_words_are_the_most_frequent() -> None:
    words = kinds_examples.WORDS
    assert words.vocab_size <= 30
    assert words.encode(["nowhere"])[0].tolist() == [words.unk_id]
    (ids,) = words.encode(["  def\n\tadd(a,  b): "])
    assert words.decode(ids.tolist()) == "def add(a, b):"


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no 'sentencpiece' \(did you mean sentencepiece\?\); there are: byte, gpt2"):
        loading.given(config.Tokenizer(kind="sentencpiece"))
    assert KINDS.get("HF") is KINDS.get("hf")


@pytest.mark.parametrize("package", ["sentencepiece", "tokenizers"])
def test_missing_package_is_named_and_nothing_takes_its_place(package: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from codex_jax.errors import ConfigError
try:
    from codex_jax.tokenizers import training
    training.train(["text"], 300, kind={package!r} if {package!r} == "sentencepiece" else "hf")
except ConfigError as error:
    print(error)
"""
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert f"pip install {package}" in done.stdout, done.stderr
