"""Directories as transformers writes them: roles, added tokens, templates, with and without a tokenizer.json."""

import json
from pathlib import Path
from typing import Any

import kinds_examples
import pytest
import transformers

from codex_jax.errors import AssetError
from codex_jax.tokenizers import loading, manifest, training
from codex_jax.tokenizers.kinds import kind_at


pytestmark = pytest.mark.data

MADE = kinds_examples.LOSSLESS["hf"]
SIZE = MADE.vocab_size


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def slow_only(directory: Path, **settings: Any) -> Path:
    """What a tokenizer without a fast one leaves: the vocabulary in two files, all else in the settings."""
    MADE.save(directory)
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    (directory / "tokenizer.json").unlink()
    write_json(directory / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    write_json(directory / "tokenizer_config.json", {"eos_token": "<|endoftext|>", **settings})
    return directory


def added(name: str, **fields: bool) -> dict[str, Any]:
    return {"content": name, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **fields}


def test_slow_only_directory_has_its_added_tokens(tmp_path: Path) -> None:
    tokens = {str(SIZE): added("<pad>", special=True), str(SIZE + 1): added("wordword", special=False)}
    loaded = loading.load(slow_only(tmp_path, added_tokens_decoder=tokens, pad_token="<pad>"))
    assert kind_at(tmp_path) == "hf"
    assert (loaded.vocab_size, loaded.pad_id, loaded.eos_id, loaded.bos_id) == (SIZE + 2, SIZE, MADE.eos_id, None)
    assert loaded.special_tokens == {"<|endoftext|>": MADE.eos_id, "<pad>": SIZE}
    assert loaded.encode(["wordword"])[0].tolist() == [SIZE + 1]
    for text in kinds_examples.TEXTS:
        assert loaded.encode([text])[0].tolist() == MADE.encode([text])[0].tolist()


def test_older_files_beside_count(tmp_path: Path) -> None:
    MADE.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    write_json(tmp_path / "added_tokens.json", {"<mask>": SIZE})
    write_json(tmp_path / "special_tokens_map.json", {"bos_token": {"content": "<mask>"}, "eos_token": "<|endoftext|>"})
    loaded = loading.load(tmp_path)
    assert (loaded.vocab_size, loaded.bos_id, loaded.eos_id) == (SIZE + 1, SIZE, MADE.eos_id)


def test_added_token_with_another_id_is_refused(tmp_path: Path) -> None:
    tokens = {str(SIZE + 5): added("<pad>", special=True)}
    with pytest.raises(AssetError, match=rf"'<pad>' with id {SIZE + 5}.*id {SIZE};.*different tokenizers"):
        loading.load(slow_only(tmp_path, added_tokens_decoder=tokens))


def test_blank_before_each_text_is_put_where_the_settings_say(tmp_path: Path) -> None:
    loaded = loading.load(slow_only(tmp_path, add_prefix_space=True))
    assert loaded.encode(["def"])[0].tolist() == MADE.encode([" def"])[0].tolist()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"added_tokens_decoder": ["<a>"]}, "added tokens in .* are not as transformers writes them"),
        ({"added_tokens_decoder": {"x": {"content": "<a>"}}}, "added tokens in .* are not"),
        ({"added_tokens_decoder": {"9000": {}}}, "added tokens in .* are not"),
        ({"added_tokens_decoder": {"9000": "<a>"}}, "added tokens in .* are not"),
        ({"chat_template": 5}, "chat_template .* is no text"),
        ({"chat_template": {"default": ""}}, "chat_template .* is no text"),
        ({"eos_token": 5.5}, "names eos_token '5.5'"),
    ],
)
def test_settings_of_another_shape_are_named(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    MADE.save(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", settings)
    with pytest.raises(AssetError, match=says):
        loading.load(tmp_path)


@pytest.mark.parametrize("role", ["eos", "pad", "bos", "unk"])
def test_role_of_a_token_that_is_not_there_is_refused(tmp_path: Path, role: str) -> None:
    MADE.save(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {f"{role}_token": "<gone>"})
    with pytest.raises(AssetError, match=f"names {role}_token '<gone>', which the vocabulary beside it does not have"):
        loading.load(tmp_path)


def test_transformers_reads_what_is_saved(tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokens = {str(SIZE): added("<pad>", special=True)}
    loading.load(slow_only(tmp_path, added_tokens_decoder=tokens, pad_token="<pad>", chat_template=template)).save(
        tmp_path / "saved"
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    ours = loading.load(tmp_path / "saved")
    assert (len(theirs), theirs.pad_token_id, theirs.eos_token_id) == (ours.vocab_size, ours.pad_id, ours.eos_id)
    assert theirs.chat_template == ours.chat_template == template
    for text in kinds_examples.TEXTS:
        theirs_ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert theirs_ids == ours.encode([text])[0].tolist()
    theirs.save_pretrained(tmp_path / "theirs")
    again = loading.load(tmp_path / "theirs")
    assert (again.vocab_size, again.pad_id, again.chat_template) == (ours.vocab_size, ours.pad_id, template)


def test_manifest_that_does_not_match_names_the_file(tmp_path: Path) -> None:
    manifest.write(tmp_path, MADE, MADE.save(tmp_path), {})
    assert loading.load(tmp_path).digest == MADE.digest
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    for given in (tmp_path, path):
        with pytest.raises(AssetError, match=r"tokenizer\.json differs from manifest\.json"):
            loading.load(given)
    path.unlink()
    with pytest.raises(AssetError, match=r"tokenizer\.json differs.*not there"):
        loading.load(tmp_path)


@pytest.mark.parametrize("files", [{"../tokenizer.json": "0"}, {"/etc/hostname": "0"}, {"tokenizer.json": 5}])
def test_manifest_that_lists_other_places_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    MADE.save(tmp_path)
    write_json(tmp_path / "manifest.json", {"tokenizer": MADE.digest, "files": files})
    with pytest.raises(AssetError, match="which is no file beside it"):
        loading.load(tmp_path)
    with pytest.raises(AssetError, match="which is no file beside it"):
        training.remove(tmp_path)


def test_manifest_of_another_program_is_left_alone(tmp_path: Path) -> None:
    MADE.save(tmp_path)
    write_json(tmp_path / "manifest.json", {"name": "a web page"})
    assert loading.load(tmp_path).digest == MADE.digest
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(AssetError, match=r"manifest\.json is not a JSON object"):
        loading.load(tmp_path)
