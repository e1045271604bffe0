"""The catalogue: what is in it can be built and has the published sizes, and what is wrong in one is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_jax import config, trees
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, catalogue, lora, origin, quantize


pytestmark = pytest.mark.model

# As their publishers say.
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "tinyllama-1.1b-chat": 1_100_048_384,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "bert-base-uncased": 109_514_298,
    "all-minilm-l6-v2": 22_713_216,
}
GOOD: dict[str, Any] = {
    "config": {"model_type": "gpt2"},
    "licence": "MIT",
    "tokenizer": "hf",
    "dtypes": ["float32"],
    "adapters": ["lora"],
    "quantizations": [],
}


@pytest.mark.parametrize("alias", list(catalogue.entries()))
def test_every_model_has_the_published_number_of_parameters(alias: str) -> None:
    entry = catalogue.entry(alias)
    name = {"gpt2-offline": "gpt2", "tinyllama-offline": "tinyllama-1.1b-chat"}.get(alias, alias)
    assert entry.config == catalogue.entry(name).config
    assert trees.num_parameters(build.define(config.Model(name=name)).abstract) == PARAMETERS[name]


@pytest.mark.parametrize("alias", ["gpt2", "qwen3-0.6b", "gemma-3-270m", "mistral-7b-v0.1", "bert-base-uncased"])
def test_adapters_and_few_bits_are_made_where_the_catalogue_says_so(alias: str) -> None:
    entry, plain = catalogue.entry(alias), build.define(config.Model(name=alias))
    is_encoder = entry.config["model_type"] == "bert"
    assert entry.adapters == ("lora",) and entry.quantizations == (() if is_encoder else ("int8", "nf4"))
    adapted = lora.adapted(plain, config.Adapter(rank=4))
    assert adapted.num_parameters > plain.num_parameters
    for mode in entry.quantizations:
        coded = quantize.quantized(adapted, config.Quantization(mode=mode))
        assert coded.kernels and coded.num_parameters == adapted.num_parameters


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"licens": "MIT"}, r"one: unknown field licens \(did you mean licence\?\)"),
        ({"licence": None}, "one: licence=None must be a text"),
        ({"dtypes": "float32"}, "one: dtypes='float32' must be a list of float32, bfloat16, float16"),
        ({"quantizations": ["int3"]}, r"one: quantizations=\['int3'\] must be a list of int8, nf4"),
        ({"config": {"n_layer": 3}}, "one: config=.* must be a table with model_type"),
        ({"hub": {"id": "a/b", "revision": "main"}}, "one: hub=.* revision"),
        ({"hub": {"id": "a"}}, "one: hub="),
        ({"files": {"model.safetensors": "abc"}}, "one: files="),
        ({"files": {"../model.safetensors": 64 * "a"}}, "one: files="),
        ({"directory": "a/b"}, "one: directory='a/b' must be the name of a directory"),
        ({"variable": "HOME"}, "one: variable='HOME'"),
        ({"offline": "yes"}, "one: offline='yes' must be true or false"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_place(change: dict[str, Any], complaint: str) -> None:
    text = yaml.safe_dump({"version": 1, "models": {"one": GOOD | change}})
    with pytest.raises(AssetError, match=f"^mine.yaml, {complaint}"):
        catalogue.read(text, "mine.yaml")


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(AssetError) as caught:
        catalogue.read("version: 1\nmodels: {one: {licence: MIT}, two: 3}", "mine.yaml")
    assert str(caught.value).splitlines() == [
        *(f"mine.yaml, one: missing field {name}" for name in GOOD if name != "licence"),
        "mine.yaml, two: is no table under a text",
    ]


@pytest.mark.parametrize("text", ["version: 2\nmodels: {}", "[]", "models: {a: 1", "version: 1\nmodels: []"])
def test_what_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(AssetError, match=r"^mine\.yaml"):
        catalogue.read(text, "mine.yaml")


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"not in the catalogue \(did you mean gpt2-large\?\); there are: gpt2, "):
        build.define(config.Model(name="gpt2-larg"))


# A-MOD-1: whatever the name is, the answer lists those there are.
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing-like-it", "model.name=nothing-like-it is not in the catalogue; there are: gpt2, "),
        ("MiniLM", "model.name=MiniLM is no model here: all-minilm-l6-v2 is the published encoder of that name, "),
        ("decoder_only", "model.name=decoder_only is no model here: write gpt2 or llama-3.2-1b, and "),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "is called tinyllama-1.1b-chat here; there are: gpt2, "),
    ],
)
def test_a_mod_1_an_unknown_name_is_answered_with_all_names(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build.define(config.Model(name=name))
    assert said in str(caught.value)
    assert str(caught.value).endswith(f"there are: {', '.join(catalogue.entries())}")


def test_names_of_codex_ml_are_here_or_say_what_to_write() -> None:
    assert {"bert-base-uncased", "gpt2-offline", "tinyllama-offline"} <= set(catalogue.entries())
    for suggested in ("all-minilm-l6-v2", "gpt2", "llama-3.2-1b"):
        assert build.define(config.Model(name=suggested)).num_parameters > 0


def test_a_config_that_its_family_cannot_read_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 10, "n_embd": 4, "n_head": 3}')
    with pytest.raises(AssetError, match=r"config\.json has no n_layer; it must be a whole number from 1 to 1,024"):
        build.define(config.Model(architecture=str(tmp_path / "config.json")))


@pytest.mark.parametrize(
    "extra", ['"auto_map": {"AutoModel": "evil.Model"}', '"trust_remote_code": true', '"model_file": "evil.py"']
)
def test_a_config_that_wants_a_program_to_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('marker', 'w')")
    (tmp_path / "config.json").write_text(f'{{"model_type": "gpt2", {extra}}}')
    with pytest.raises(AssetError, match=r"asks for a program of its own, and none is ever run"):
        build.define(config.Model(weights=str(tmp_path)))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("field", ["n_layer", "n_embd", "vocab_size", "n_positions", "n_inner"])
def test_an_absurd_size_is_refused(field: str) -> None:
    absurd = {**catalogue.entry("gpt2").config, field: 1 << 40}
    with pytest.raises(AssetError, match=f"has {field}=1099511627776; it must be a whole number from 1 to"):
        build.define(config.Model(architecture=json.dumps(absurd)))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CODEX_GPT2_PATH", *origin.ROOTS):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("model", [{"name": "gpt2-offline"}, {"name": "gpt2", "weights": "offline"}])
def test_the_places_of_an_offline_model_count_in_their_order(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, str]
) -> None:
    settings = config.Model(**model)
    (nowhere / "many").mkdir()
    monkeypatch.setenv("CODEX_OFFLINE_MODELS_DIR", str(nowhere / "many"))
    with pytest.raises(AssetError) as caught:
        build.define(settings)
    assert str(caught.value).splitlines() == [
        f"the model {model['name']} is nowhere on this machine; looked at:",
        f"  {nowhere}/many/gpt2 (CODEX_OFFLINE_MODELS_DIR)",
        f"  {nowhere}/artifacts/models/gpt2 (artifacts/models)",
        "put its files there, or name their place in CODEX_GPT2_PATH, or give the directory: model.weights=DIRECTORY",
        f"where there is a network: codex-jax model download {model['name']}",
    ]
    for place in ("artifacts/models/gpt2", "many/gpt2", "own"):
        (nowhere / place).mkdir(parents=True)
        if place == "own":
            monkeypatch.setenv("CODEX_GPT2_PATH", str(nowhere / "own"))
        assert origin.weights(settings) == nowhere / place
    monkeypatch.setenv("CODEX_GPT2_PATH", str(nowhere / "gone"))
    with pytest.raises(AssetError, match=r"^CODEX_GPT2_PATH=.*gone does not exist"):
        origin.weights(settings)


def test_a_name_and_weights_of_another_model_are_refused(nowhere: Path) -> None:
    (nowhere / "config.json").write_text(json.dumps(catalogue.entry("gpt2").config))
    assert build.described(config.Model(weights=str(nowhere)))[0].name == "gpt2"
    assert build.described(config.Model(name="gpt2", weights=str(nowhere)))[0].name == "gpt2"
    with pytest.raises(ConfigError, match=r"model.name=qwen3-0.6b is of family qwen3, and .* of family gpt2"):
        build.described(config.Model(name="qwen3-0.6b", weights=str(nowhere)))
    with pytest.raises(ConfigError, match=r"model.name=gpt2-medium has num_layers=24, and .* 12\n.*num_heads=16"):
        build.described(config.Model(name="gpt2-medium", weights=str(nowhere)))


def test_files_of_a_name_must_be_those_that_the_catalogue_knows(nowhere: Path) -> None:
    here = nowhere / "artifacts/models/all-minilm-l6-v2"
    here.mkdir(parents=True)
    named = config.Model(name="all-minilm-l6-v2", weights="offline")
    (here / "model.safetensors").write_bytes(b"of another model")
    with pytest.raises(
        AssetError, match=r"is not the file that the catalogue knows as all-minilm-l6-v2's: .* 53aa5117"
    ):
        origin.weights(named)
    (here / "model.safetensors").rename(here / "flax_model.msgpack")
    with pytest.raises(
        AssetError, match=r"flax_model\.msgpack is none of the files .* weights are in model\.safetensors"
    ):
        origin.weights(named)
    assert origin.weights(config.Model(name="all-minilm-l6-v2", weights=str(here))) == here
