"""From here to transformers: the same logits, and what was imported goes out with its names and bytes."""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.serialization
import jax
import numpy as np
import pytest
import test_pretrained
import torch_models
import written
from safetensors.numpy import load_file, save_file

from codex_jax.errors import AssetError
from codex_jax.models import build, export, flax_file, outgoing, weight_files


pytestmark = pytest.mark.model


def exported(source: Path, destination: Path, **options: Any) -> build.Definition:
    """Load a directory and write it again."""
    definition, parameters = test_pretrained.loaded(source)
    with export.directory(destination, force=False) as draft:
        export.write(draft, definition, parameters, **{"dtype": "float32", **options})
    return definition


def read_all(directory: Path) -> dict[str, Any]:
    return {name: tensor for path in weight_files.files(directory) for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("name", torch_models.FILES)
def test_transformers_loads_what_is_exported_with_the_same_logits(
    torch_oracle: ModuleType, tmp_path: Path, name: str
) -> None:
    import transformers

    made = written.network(name)
    definition = exported(written.write(made, tmp_path / "there"), tmp_path / "back", shard_bytes=40_000)
    assert len(weight_files.files(tmp_path / "back")) > 1
    again = getattr(transformers, made.config.architectures[0]).from_pretrained(
        tmp_path / "back", attn_implementation="eager"
    )
    tokens_BL = test_pretrained.some_tokens(definition)
    ours, theirs = (test_pretrained.logits_of_torch(one, tokens_BL) for one in (again, made))
    np.testing.assert_array_equal(ours, theirs)
    assert again.config.architectures == made.config.architectures


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_was_imported_goes_out_byte_by_byte(
    torch_oracle: ModuleType, tmp_path: Path, name: str, dtype: str
) -> None:
    made = written.network(name).to(getattr(torch_oracle, dtype))
    exported(written.write(made, tmp_path / "there"), tmp_path / "back", dtype=dtype)
    there, back = ((tmp_path / place / "model.safetensors").read_bytes() for place in ("there", "back"))
    assert there == back


def test_shards_are_as_large_as_asked_and_listed(torch_oracle: ModuleType, tmp_path: Path) -> None:
    made = written.network("llama")
    exported(written.write(made, tmp_path / "there"), tmp_path / "back", shard_bytes=30_000)
    sizes = [
        sum(tensor.nbytes for tensor in load_file(path).values()) for path in weight_files.files(tmp_path / "back")
    ]
    assert len(sizes) > 3 and max(sizes) <= 30_000
    index = json.loads((tmp_path / "back" / weight_files.INDEX).read_text())
    assert index["metadata"] == {"total_parameters": sum(sizes) // 4, "total_size": sum(sizes)}
    one, other = read_all(tmp_path / "there"), read_all(tmp_path / "back")
    assert one.keys() == other.keys() == index["weight_map"].keys()
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor, other[name])


@pytest.mark.parametrize("most", [1 << 30, 1000])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_flax_files_are_as_flax_has_them(
    torch_oracle: ModuleType, tmp_path: Path, name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "MOST_IN_ONE", most)
    made = written.network(name)
    definition, parameters = test_pretrained.loaded(written.write(made, tmp_path / "there"))
    with export.directory(tmp_path / "back", force=False) as draft:
        export.write_flax(draft, definition, parameters, dtype="float32")
    found = flax.serialization.msgpack_restore((tmp_path / "back" / "flax_model.msgpack").read_bytes())
    expected = written.flax_names(written.tensors_of(made))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert flax_file.tensors(tmp_path / "back" / "flax_model.msgpack")
    jax.tree.map(np.testing.assert_array_equal, test_pretrained.loaded(tmp_path / "back")[1], parameters)


def test_files_are_those_of_the_safetensors_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in {"b": (3,), "a.é": (2, 5)}.items()}
    sent = [outgoing.Outgoing(name, array.shape, lambda array=array: array) for name, array in arrays.items()]
    outgoing.write_safetensors(tmp_path, sent, "float32", 1 << 30)
    save_file(arrays, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_nothing_is_there_when_the_export_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), export.directory(tmp_path / "out", force=False) as draft:
        (draft / "config.json").write_text("{}")
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_replaced_when_asked_for_and_only_if_it_is_an_export(tmp_path: Path) -> None:
    def write(text: str, *, force: bool) -> None:
        with export.directory(tmp_path / "out", force=force) as draft:
            (draft / "config.json").write_text(text)

    write("1", force=False)
    with pytest.raises(AssetError, match="out is there already; choose another directory, or --force"):
        write("2", force=False)
    write("3", force=True)
    assert (tmp_path / "out" / "config.json").read_text() == "3" and os.listdir(tmp_path) == ["out"]
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(AssetError, match=r"out holds thesis.tex, which is of no export: nothing there is replaced"):
        write("4", force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work" and os.listdir(tmp_path) == ["out"]


def test_nothing_private_is_in_the_config(torch_oracle: ModuleType, tmp_path: Path) -> None:
    made = written.network("gpt2")
    made.config._name_or_path = "/home/somebody/secret"
    written.write(made, tmp_path / "there")
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    (tmp_path / "there" / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/somebody/secret"}))
    exported(tmp_path / "there", tmp_path / "back", dtype="bfloat16")
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    assert "secret" not in json.dumps(found) and found["dtype"] == "bfloat16"
    assert found["architectures"] == ["GPT2LMHeadModel"]
