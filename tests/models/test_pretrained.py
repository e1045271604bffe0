"""Weights that transformers wrote, read here: equal logits, whatever the files look like."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.serialization
import jax
import numpy as np
import pytest
import test_families
import torch_models
import written
from safetensors.numpy import load_file, save_file

from codex_jax import config, sharding, trees
from codex_jax.errors import AssetError
from codex_jax.models import build, catalogue, flax_file, pretrained, stored


pytestmark = pytest.mark.model


def loaded(directory: Path) -> tuple[build.Definition, dict[str, Any]]:
    definition = build.define(written.settings(directory))
    return definition, pretrained.load(directory, definition, written.on_one_device(definition))


def logits_of_torch(made: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        found: np.ndarray[Any, Any] = made(torch.from_numpy(tokens_BL).long()).logits.float().numpy()
    return found


def values(one: stored.Stored, *, turned: bool) -> np.ndarray[Any, Any]:
    return stored.read(one, stored.room(int(np.prod(one.shape))), turned=turned)


def some_tokens(definition: build.Definition) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, definition.shape.vocab_size, (2, 40)).astype(np.int32)


@pytest.mark.parametrize("name", torch_models.FILES)
def test_a_directory_of_transformers_gives_the_same_logits(torch_oracle: ModuleType, tmp_path: Path, name: str) -> None:
    made = written.network(name)
    definition, parameters = loaded(written.write(made, tmp_path))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), parameters) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), definition.abstract
    )
    tokens_BL = some_tokens(definition)
    expected_BLV = logits_of_torch(made, tokens_BL)
    np.testing.assert_allclose(test_families.logits(definition, parameters, tokens_BL), expected_BLV, atol=2e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "qwen2", "gemma3"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shards_of_half_precision_give_the_values_they_hold(
    torch_oracle: ModuleType, tmp_path: Path, name: str, dtype: str
) -> None:
    made = written.network(name).to(getattr(torch_oracle, dtype))
    written.write(made, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    definition, parameters = loaded(tmp_path)
    expected = torch_models.parameters_of(made.float(), definition)
    jax.tree.map(np.testing.assert_array_equal, parameters, expected)


def change(directory: Path, change: Any) -> None:
    """Rewrite the single file of a directory after `change(tensors)`."""
    file = directory / "model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tied Llama of two layers, written without torch."""
    published = {**torch_models.CONFIGS["llama-tied"][1], "model_type": "llama", "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(published))
    definition = build.define(written.settings(tmp_path))
    shapes = {name: leaf.shape for name, leaf in trees.named_leaves(definition.abstract)}
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(pretrained.published_shape(leaf, shapes[leaf], row)).astype(np.float32)
        for leaf, row, names in pretrained.rows(definition)
        for name in names
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_every_difference_is_in_one_message_before_anything_is_read(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.norm.weight"] = np.ones(47, np.float32)
        tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].T.copy()
        tensors["model.layers.0.input_layernorm.weight"] = np.ones(48, np.float64)
        tensors["model.layers.2.input_layernorm.weight"] = np.ones(48, np.float32)

    change(small, damage)
    monkeypatch.delattr(stored, "read")
    with pytest.raises(AssetError) as caught:
        loaded(small)
    assert str(caught.value).splitlines() == [
        f"the weights in {small} are not those of this llama; 5 tensors differ:",
        "  model.layers.0.mlp.up_proj.weight: has shape (48, 80), here (80, 48)",
        "  model.layers.1.mlp.up_proj.weight: is missing",
        "  model.layers.0.input_layernorm.weight: is of type F64, read are F32, F16, BF16",
        "  model.norm.weight: has shape (47,), here (48,)",
        "  model.layers.2.input_layernorm.weight: is no tensor of this model",
    ]


def test_weights_that_no_memory_can_hold_are_refused_before_any_is_asked_for(small: Path) -> None:
    """A sparse file: its header is true of it, and it takes no room on the disk."""
    wide = {**json.loads((small / "config.json").read_text()), "vocab_size": 1 << 24, "num_hidden_layers": 1}
    wide |= {"hidden_size": 1 << 17, "head_dim": 2, "intermediate_size": 1}
    (small / "config.json").write_text(json.dumps(wide))
    definition = build.define(written.settings(small))
    shapes, header, end = {name: leaf.shape for name, leaf in trees.named_leaves(definition.abstract)}, {}, 0
    for leaf, row, names in pretrained.rows(definition):
        shape = pretrained.published_shape(leaf, shapes[leaf], row)
        begin, end = end, end + 4 * int(np.prod(shape, dtype=np.int64))
        header[names[0]] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file = small / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + end)
    with pytest.raises(AssetError, match=r"take 8\.8 TB of memory, and there are .*quantization\.mode"):
        loaded(small)


def test_names_without_prefix_and_tensors_without_weights_are_understood(small: Path) -> None:
    _, expected = loaded(small)

    def bare(tensors: dict[str, Any]) -> dict[str, Any]:
        renamed = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        return {**renamed, "layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32)}

    change(small, bare)
    jax.tree.map(np.testing.assert_array_equal, loaded(small)[1], expected)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(small: Path) -> None:
    _, expected = loaded(small)
    change(small, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]})
    jax.tree.map(np.testing.assert_array_equal, loaded(small)[1], expected)
    change(small, lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1})
    with pytest.raises(AssetError, match="the weights have a head of other values; set tie_word_embeddings to false"):
        loaded(small)


def test_a_file_that_ends_while_it_is_read_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = build.define(written.settings(small))
    sources = pretrained.match(small, definition, [name for name, _ in trees.named_leaves(definition.abstract)])
    file = small / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(AssetError, match=r"model\.safetensors was cut off while it was read"):
        for source in sources:
            [values(tensor, turned=False) for tensor in source.tensors]


def test_a_tensor_larger_than_a_band_is_read_whole_either_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BAND_BYTES", 100)
    matrix = np.random.default_rng(0).standard_normal((37, 11)).astype(np.float32)
    save_file({"a": matrix, "b": matrix[:, 0].copy()}, tmp_path / "model.safetensors")
    found = pretrained.weight_files.tensors(tmp_path)
    np.testing.assert_array_equal(values(found["a"], turned=False), matrix)
    np.testing.assert_array_equal(values(found["a"], turned=True), matrix.T)
    np.testing.assert_array_equal(values(found["b"], turned=False), matrix[:, 0])
    assert b"".join(stored.raw(found["a"])) == matrix.tobytes()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_parameters_are_made_on_eight_devices_as_on_one(tmp_path: Path, name: str) -> None:
    """Their values are checked against torch above."""
    settings = config.Model(
        name="gpt2" if name == "gpt2" else "tinyllama-1.1b-chat",
        vocab_size=96, num_layers=3, width=64, num_heads=4, mlp_width=128,
    )  # fmt: skip
    definition = build.define(settings)
    shapes = dict(trees.named_leaves(definition.abstract))
    tensors = {
        one: np.random.default_rng(len(one)).standard_normal(
            pretrained.published_shape(leaf, shapes[leaf].shape, row)).astype(np.float32)
        for leaf, row, names in pretrained.rows(definition) for one in names
    }  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    mesh = sharding.make_mesh(config.Parallel(data=2, fsdp=2, tensor=2))
    places = sharding.of_tree(definition.abstract, mesh)
    many = pretrained.load(tmp_path, definition, places)
    jax.tree.map(lambda leaf, place: leaf.sharding.is_equivalent_to(place, leaf.ndim) or pytest.fail(), many, places)
    assert many["blocks"]["mlp"]["up"]["kernel"].addressable_data(0).shape == (3, 32, 64)
    one = pretrained.load(tmp_path, definition, written.on_one_device(definition))
    jax.tree.map(np.testing.assert_array_equal, many, one)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "gpt2-inner", "llama", "llama-tied", "qwen3"])
def test_flax_files_give_the_values_of_torch(
    torch_oracle: ModuleType, tmp_path: Path, name: str, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written.network(name)
    made.config.save_pretrained(tmp_path)
    if chunked:
        monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 1000)
    tree = written.flax_names(written.tensors_of(made))
    (tmp_path / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    definition, parameters = loaded(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, parameters, torch_models.parameters_of(made, definition))


def test_a_damaged_flax_file_is_refused_wherever_it_ends(small: Path) -> None:
    tree = written.flax_names({"wte.weight": np.ones((3, 4), np.float32), "h.0.ln_1.weight": np.ones(4, np.float32)})
    whole = flax.serialization.msgpack_serialize(tree)
    file = small / "flax_model.msgpack"
    file.write_bytes(whole)
    assert sorted(flax_file.tensors(file)) == ["h.0.ln_1.weight", "wte.weight"]
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(AssetError, match="is not as Flax writes weights, or was cut off"):
            flax_file.tensors(file)
    file.write_bytes(whole + b"x")
    with pytest.raises(AssetError, match="something follows its end"):
        flax_file.tensors(file)
    for hostile in (
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a" * 100_000,
        b"\x81\xdb\xff\xff\xff\xff",
        b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    ):
        file.write_bytes(hostile)
        with pytest.raises(AssetError):
            flax_file.tensors(file)


PEAK = """
import sys
from pathlib import Path
import jax
import written
from codex_jax import trees
from codex_jax.models import build, pretrained
def peak():  # without the pages of libraries, which come and go with what else the machine does
    status = Path("/proc/self/status").read_text()
    most, of_files = (int(status.partition(name)[2].split()[0]) << 10 for name in ("VmHWM:", "RssFile:"))
    return most - of_files
definition = build.define(written.settings(Path(sys.argv[1])))
places = written.on_one_device(definition)
jax.block_until_ready(jax.jit(lambda: jax.numpy.zeros(3))())  # starts the backend
before = peak()
parameters = jax.block_until_ready(pretrained.load(Path(sys.argv[1]), definition, places))
print(peak() - before, 4 * trees.num_parameters(definition.abstract))
"""
# glibc gives each thread that finds it busy a heap of its own, which keeps what was freed: how many is up to the load.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "GLIBC_TUNABLES": ""}
# Tables of rows, and matrices of a layer, which are turned around: 67 and 50 MB.
LARGEST = {
    "embedding": {"vocab_size": 32768, "hidden_size": 512, "intermediate_size": 1024},
    "layer": {"vocab_size": 1024, "hidden_size": 2048, "intermediate_size": 6144},
}


@pytest.mark.parametrize(("largest", "dtype"), [("embedding", "float32"), ("layer", "bfloat16")])
def test_no_more_than_a_tensor_is_in_memory_beside_the_parameters(
    tmp_path: Path, main_env: dict[str, str], largest: str, dtype: str
) -> None:
    published = {**catalogue.entry("tinyllama-1.1b-chat").config, **LARGEST[largest], "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(published | {"num_attention_heads": 8}))
    definition = build.define(written.settings(tmp_path))
    shapes = dict(trees.named_leaves(definition.abstract))
    tensors = {
        name: np.ones(pretrained.published_shape(leaf, shapes[leaf].shape, row), jax.numpy.dtype(dtype))
        for leaf, row, names in pretrained.rows(definition)
        for name in names
    }
    save_file(tensors, tmp_path / "model.safetensors")
    most = max(4 * tensor.size for tensor in tensors.values())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**main_env, **ONE_HEAP},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    grown, parameters = map(int, done.stdout.split())
    # A dozen small programs and what is read at a time are there whatever the size of the model: 20 MB beside a tensor.
    assert grown - parameters <= 1.3 * most + 25e6, (grown, parameters, most)
