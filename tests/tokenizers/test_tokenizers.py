"""Tokenizers: nothing is lost between text and tokens, equal corpora give equal tokenizers, damage is named."""

import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codex_jax import config
from codex_jax.errors import AssetError
from codex_jax.tokenizers import loading, training
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


pytestmark = pytest.mark.data

TEXTS = ["def add(a, b):\n    return a + b\n" * 20, "naïve café 🙂 <|endoftext|> x\r\n" * 10]
TRAINED = training.train(TEXTS, 400)


@given(st.text())
@example("\0 NUL, CRLF\r\n, tab\t, trailing  ")
@example("🙂👩‍👩‍👧 é e\u0301 \u2028 \ufeff")
@example("<|endoftext|>")
@settings(deadline=None)
def test_decode_inverts_encode_for_any_text(text: str) -> None:
    (ids,) = TRAINED.encode([text])
    assert TRAINED.decode(ids) == text
    assert ids.dtype == "int32"
    assert ids.size == 0 or (ids.max() < TRAINED.vocab_size and TRAINED.eos_id not in ids)


def test_training_gives_one_digest_in_every_process() -> None:
    program = f"from codex_jax.tokenizers import training; print(training.train({TEXTS!r}, 400).digest)"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", program]
        made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert made.stdout.strip() == TRAINED.digest


def test_little_text_still_has_every_byte() -> None:
    small = training.train(["ab"], 300)
    assert 257 <= small.vocab_size <= 300
    assert small.decode(small.encode(["þ\x00"])[0]) == "þ\x00"


def test_saved_tokenizer_loads_as_the_same(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "kept")
    for path in (tmp_path / "kept", tmp_path / "kept" / "tokenizer.json"):
        loaded = loading.load(path)
        assert (loaded.digest, loaded.eos_id, loaded.vocab_size) == (TRAINED.digest, TRAINED.eos_id, TRAINED.vocab_size)


def test_pickled_tokenizer_still_takes_special_text_as_text() -> None:
    copy = pickle.loads(pickle.dumps(TRAINED))
    assert copy.digest == TRAINED.digest
    assert copy.eos_id not in copy.encode(["<|endoftext|>"])[0]


def test_special_tokens_in_a_text_become_their_ids_only_when_asked_for() -> None:
    text = "a<|endoftext|>b"
    for made in (TRAINED, pickle.loads(pickle.dumps(TRAINED))):
        (ids,), (literal,) = made.encode([text], special=True), made.encode([text])
        assert ids.tolist().count(made.eos_id) == 1 and made.eos_id not in literal
        assert made.decode(ids) == made.decode(literal) == text


@pytest.mark.parametrize("form", ["text", "list", "file"])
def test_chat_template_of_a_directory_is_kept(tmp_path: Path, form: str) -> None:
    TRAINED.save(tmp_path)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    settings: dict = {"eos_token": "<|endoftext|>"}
    if form == "file":
        (tmp_path / "chat_template.jinja").write_text(template)
    else:
        settings["chat_template"] = [{"name": "default", "template": template}] if form == "list" else template
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = loading.load(tmp_path)
    loaded.save(tmp_path / "again")
    assert loading.load(tmp_path / "again").chat_template == loaded.chat_template == template
    assert TRAINED.chat_template is None and loaded.digest != TRAINED.digest


def write_gpt2(directory: Path) -> Path:
    directory.mkdir()
    vocab = json.loads(tokenizers.Tokenizer.from_str(json.dumps(inner())).to_str())["model"]["vocab"]
    (directory / "vocab.json").write_text(json.dumps(vocab))
    merges = [" ".join(pair) for pair in inner()["model"]["merges"]]
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return directory


def inner(**changes: object) -> dict:
    return {**json.loads(TRAINED._inner.to_str()), **changes}


def test_vocab_and_merges_encode_like_the_tokenizer_they_are_of(tmp_path: Path) -> None:
    loaded = loading.load(write_gpt2(tmp_path / "gpt2"))
    loaded.save(tmp_path / "saved")
    assert loading.load(tmp_path / "saved").digest == loaded.digest
    assert (loaded.vocab_size, loaded.eos_id) == (TRAINED.vocab_size, TRAINED.eos_id)
    for text in TEXTS:
        assert loaded.encode([text])[0].tolist() == TRAINED.encode([text])[0].tolist()


def test_added_tokens_count_in_the_vocabulary() -> None:
    wider = tokenizers.Tokenizer.from_str(json.dumps(inner()))
    wider.add_tokens(["zzzz"])
    made = JsonTokenizer(wider, Roles(eos="<|endoftext|>"))
    assert made.vocab_size == TRAINED.vocab_size + 1
    assert made.encode(["zzzz"])[0].tolist() == [made.vocab_size - 1]


def test_truncation_of_the_file_is_not_applied(tmp_path: Path) -> None:
    cut = tokenizers.Tokenizer.from_str(json.dumps(inner()))
    cut.enable_truncation(4)
    cut.enable_padding(length=8)
    (tmp_path / "tokenizer.json").write_text(cut.to_str())
    loaded = loading.load(tmp_path)
    assert loaded.encode([TEXTS[0]])[0].tolist() == TRAINED.encode([TEXTS[0]])[0].tolist()


def test_end_token_is_the_configured_one(tmp_path: Path) -> None:
    other = tokenizers.Tokenizer.from_str(json.dumps(inner()))
    other.add_special_tokens(["<|stop|>"])
    (tmp_path / "tokenizer.json").write_text(other.to_str())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|stop|>"}}')
    loaded = loading.load(tmp_path)
    assert loaded.eos_id == TRAINED.vocab_size
    assert loaded.digest != JsonTokenizer(other, Roles(eos="<|endoftext|>")).digest
    loaded.save(tmp_path / "again")
    assert loading.load(tmp_path / "again").eos_id == loaded.eos_id


def test_missing_tokenizer_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"nowhere does not exist.*tokenizer\.json.*merges\.txt"):
        loading.load(tmp_path / "nowhere")
    with pytest.raises(AssetError, match=r"looked for tokenizer\.json, then for vocab\.json with merges\.txt"):
        loading.load(tmp_path)


def test_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"x+ cannot be read: File name too long"):
        loading.load(tmp_path / ("x" * 300))
    TRAINED.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        with unreadable(tmp_path / name), pytest.raises(AssetError, match="cannot be read: Input/output error"):
            loading.load(tmp_path)


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Put a link in its place to what cannot be read: modes do not keep root from it."""
    path.rename(path.with_suffix(".kept"))
    path.symlink_to("/proc/self/mem")
    yield
    path.unlink()
    path.with_suffix(".kept").rename(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"version": "1.0", "model": {}}'])
def test_damaged_tokenizer_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(AssetError, match=r"tokenizer\.json is not (a usable|UTF-8)"):
        loading.load(tmp_path)


def test_damaged_merges_are_named(tmp_path: Path) -> None:
    directory = write_gpt2(tmp_path / "gpt2")
    (directory / "merges.txt").write_text("#version: 0.2\nnot in the vocabulary at all\n")
    with pytest.raises(AssetError, match=r"merges\.txt are not a usable vocabulary"):
        loading.load(directory)


def test_tokenizer_without_an_end_token_is_refused_for_training(tmp_path: Path) -> None:
    plain = inner(added_tokens=[])
    plain["model"]["vocab"]["<x>"] = plain["model"]["vocab"].pop("<|endoftext|>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    loaded = loading.load(tmp_path)
    assert (loaded.eos_id, loaded.pad_id, loaded.bos_id, loaded.unk_id) == (None, None, None, None)
    with pytest.raises(AssetError, match=r"no token that ends a document.*</s>"):
        loading.given(config.Tokenizer(path=str(tmp_path)))


def test_second_start_finds_the_trained_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path))
    calls = []
    made = [training.cached(lambda: calls.append(1) or TEXTS, 400, {"corpus": "a"}) for _ in range(2)]
    assert len(calls) == 1
    assert made[0].digest == made[1].digest == TRAINED.digest
    training.cached(lambda: calls.append(1) or TEXTS, 400, {"corpus": "b"})
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "manifest.json"])
def test_damaged_cache_entry_is_named_and_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path))
    training.cached(lambda: TEXTS, 400, {})
    (file,) = tmp_path.rglob(name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = hashlib.sha256(content).hexdigest()
    again = training.cached(lambda: TEXTS, 400, {})
    assert again.digest == TRAINED.digest
    assert hashlib.sha256(file.read_bytes()).hexdigest() != before
    assert "is damaged" in caplog.text and str(file.parent) in caplog.text
