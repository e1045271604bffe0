"""A config.json that is damaged, hostile or absurd: every field of every family, one message, nothing allocated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_models
import written
from safetensors.numpy import save_file

from codex_jax import config
from codex_jax.errors import AssetError, CodexError
from codex_jax.models import build, origin, pretrained


pytestmark = pytest.mark.security

ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = ROPE | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
# Every field that a family reads, so that each is once something else.
WHOLE: dict[str, dict[str, Any]] = {
    name: {**torch_models.CONFIGS[name][1], "model_type": torch_models.CONFIGS[name][0], **more}
    for name, more in {
        "gpt2": {"n_inner": 50, "layer_norm_epsilon": 1e-5, "activation_function": "gelu", "initializer_range": 0.02},
        "llama": {"rope_parameters": LLAMA3, "hidden_act": "silu", "mlp_bias": False, "rms_norm_eps": 1e-6},
        "mistral": {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 1e4, "head_dim": 12},
        "qwen2-window": {"rope_parameters": ROPE, "layer_types": ["full_attention"] * 3, "tie_word_embeddings": True},
        "qwen3": {"attention_bias": False, "use_sliding_window": False},
        "gemma3": {
            "rope_scaling": ROPE,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "sliding_window_pattern": 6,
            "hidden_activation": "gelu_pytorch_tanh",
            "use_bidirectional_attention": False,
        },
        "bert": {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {"0": "no", "1": "yes", "2": "perhaps"},
            "num_labels": 3,
            "position_embedding_type": "absolute",
            "type_vocab_size": 2,
        },
    }.items()
}
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 1.5, -0.5, 1e-300, 1e300, 1 << 24, 1 << 40, 10**400),
    *("", "x", "\x1b[2J\n" * 1000, [], [1], [[]], [{}], [None] * 3, {}, {"a": []}, {"rope_type": []}),
    *({"rope_type": "yarn", "factor": 0}, {"full_attention": 3, "sliding_attention": []}, ["BertModel", "BertModel"]),
]


def places(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in values.items():
        found += [(*path, name), *(places(value, (*path, name)) if isinstance(value, dict) else [])]
    return found


def changed(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    name, *rest = path
    return {**values, name: changed(values[name], tuple(rest), value) if rest else value}


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_a_field_is_it_is_read_or_refused_in_one_short_message(name: str) -> None:
    read = build.described(config.Model(architecture=json.dumps(WHOLE[name])))
    assert read[2].num_layers
    for path in places(WHOLE[name]):
        for value in STRANGE:
            text = json.dumps(changed(WHOLE[name], path, value))
            try:
                shape = build.described(config.Model(architecture=text))[2]
            except CodexError as error:
                assert len(str(error)) < 1000 and "\x1b" not in str(error), (path, value)
            else:
                assert 1 <= shape.num_layers <= 1024, (path, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": "gpt2", "n_layer": 2, "model_type": "llama"}', "'model_type' is in it twice"),
        ('{"model_type": "gpt2", "initializer_range": 1e999}', "1e999 is in it, which is no finite number"),
        ('{"model_type": "gpt2", "initializer_range": NaN}', "NaN is in it"),
        ('{"model_type": "gpt2", "more": ' + "[" * 80 + "]" * 80 + "}", "nested more than 64 deep"),
        ('{"model_type": "gpt2", "more": ' + '{"a":' * 100_000, "is not a JSON object"),
        ('{"model_type": "gpt2", "n_layer": ' + "9" * 10_000 + "}", "is not a JSON object"),
        ("[]", "it is a list"),
        ('"gpt2"', "it is a list, a text or a number"),
        ("", "is not a JSON object"),
        ('{"model_type": ["gpt2"]}', r"has model_type=\['gpt2'\]; it must be a word"),
        ('{"model_type": "' + "gpt2" * 1000 + '"}', "it must be a word"),
    ],
)
def test_a_text_that_is_no_plain_object_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    for model in (config.Model(weights=str(tmp_path)), config.Model(architecture=str(tmp_path / "config.json"))):
        with pytest.raises(AssetError, match=said) as refused:
            build.described(model)
        assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"{" + b" " * (1 << 20)])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        AssetError, match=r"is not a JSON object|has 1,048,577 bytes; a file of this name has at most 1,048,576"
    ):
        origin.read(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "bert"])
def test_the_largest_sizes_are_compared_with_the_files_before_memory_is_asked_for(tmp_path: Path, name: str) -> None:
    small = ("head", "layers", "n_layer", "window", "labels", "type_vocab")
    huge = {
        field: value if type(value) is not int or any(part in field for part in small) else 1 << 20
        for field, value in WHOLE[name].items()
    }
    (tmp_path / "config.json").write_text(
        json.dumps(huge | {"head_dim": 1 << 20, "num_attention_heads": 4, "n_head": 4})
    )
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
    definition = build.define(written.settings(tmp_path))
    assert definition.num_parameters > 1 << 40
    with pytest.raises(AssetError, match=r"\d tensors differ"):
        pretrained.load(tmp_path, definition, written.on_one_device(definition))
