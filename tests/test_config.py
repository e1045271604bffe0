"""From files and flags to settings: every mistake is named, and where each value came from is known."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codex_jax import config, keys, main, overrides, schema
from codex_jax.errors import ConfigError


pytestmark = pytest.mark.infra

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GPT2 = str(CONFIGS / "gpt2.py")


def changed(**values: Any) -> dict[str, Any]:
    """The defaults as plain nested values, with `section__key=value` changed."""
    settings: dict[str, Any] = config.default().to_dict()
    for name, value in values.items():
        section, key = name.split("__")
        settings[section][key] = value
    return settings


def problems_of(settings: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.resolve(settings)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_defaults_resolve_and_every_key_is_explained() -> None:
    assert config.resolve(config.default().to_dict()) == config.Config()
    for name, field, kind in schema.walk(config.Config):
        assert field.metadata["meaning"], name
        assert schema.check(name, field.default, field, kind) == (field.default, []), name


def test_default_is_locked_and_typed() -> None:
    settings = config.default()
    with pytest.raises(AttributeError, match="learning_rat"):
        settings.optimizer.learning_rat = 1.0
    with pytest.raises(KeyError, match="extra"):
        settings["extra"] = 1
    with pytest.raises(TypeError, match="num_steps"):
        settings.train.num_steps = "many"


def test_unknown_and_missing_keys_are_refused() -> None:
    settings = changed(optimizer__learning_rat=1.0)
    del settings["model"]["width"]
    assert problems_of(settings) == [
        "unknown key optimizer.learning_rat (did you mean optimizer.learning_rate?)",
        "missing key model.width",
    ]


def test_all_violations_are_listed_at_once() -> None:
    settings = changed(train__num_steps=0, model__dropout=2.0, data__source=3, model__attention="fast")
    assert problems_of(settings) == [
        "model.dropout=2.0 is too large: the most is 0.99",
        "model.attention='fast' is not one of auto, xla, cudnn",
        "data.source=3 is of type int, expected str",
        "train.num_steps=0 is too small: the least is 1",
    ]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model__num_layers": 12, "model__scan_unroll": 5}, "model.scan_unroll=5"),
        ({"model__context_length": 1024, "data__sequence_length": 2048}, "data.sequence_length=2048"),
        ({"train__microbatch_size": 3}, "train.microbatch_size=3"),
        ({"optimizer__final_learning_rate": 1.0}, "optimizer.final_learning_rate=1.0"),
        ({"model__context_length": 1024, "generate__num_tokens": 1024}, "generate.num_tokens=1024"),
        ({"data__validation_fraction": 0.0}, "data.validation_fraction=0"),
        ({"safety__enabled": False}, "safety.enabled=false needs a reason"),
        ({"safety__bypass": True}, "safety.bypass=true needs a reason"),
        ({"data__source": "stdlib", "data__paths": ("x",)}, "data.source=stdlib"),
        ({"data__source": "StdLib", "data__paths": ("x",)}, "data.source=StdLib reads no data.paths"),
        ({"tracking__system_every_secs": 0.05}, "tracking.system_every_secs=0.05 would be more looking than work"),
        ({"tracking__profile_from_step": 5}, "tracking.profile_from_step=5 is not read without tracking.profile_steps"),
        (
            {"tracking__profile_from_step": 900, "tracking__profile_steps": 102},
            "tracking.profile_from_step=900 and tracking.profile_steps=102 go beyond train.num_steps=1000",
        ),
        ({"checkpoint__keep_every": 150}, "checkpoint.keep_every=150 is no multiple of checkpoint.every_steps=100"),
        ({"checkpoint__best_metric": "accuracy", "checkpoint__best_mode": "max"}, "no figure of data.objective=causal"),
        ({"checkpoint__best_metric": "token_accuracy"}, "would keep the worst: set checkpoint.best_mode=max"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], named: str) -> None:
    (problem,) = problems_of(changed(**values))
    assert named in problem


def test_contradictions_are_found_beside_other_mistakes() -> None:
    settings = changed(
        data__sequence_length=9,
        model__context_length=8,
        generate__num_tokens=7,
        train__num_steps=0,
        train__global_batch_size=0,
        train__microbatch_size=3,
    )
    assert problems_of(settings) == [
        "train.num_steps=0 is too small: the least is 1",
        "train.global_batch_size=0 is too small: the least is 1",  # and nothing of the microbatch that divides it
        "data.sequence_length=9 is longer than model.context_length=8",
    ]


def test_value_that_cannot_be_read_is_not_judged_by_the_one_it_replaces() -> None:
    with pytest.raises(ConfigError) as caught:
        overrides.load(f"{GPT2}:tiny", [("model.num_heads", "six"), ("model.width", "66")])
    assert str(caught.value).splitlines()[1:] == ["  model.num_heads: 'six' is not an int"]


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().model.width = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_file_of_configs_resolves_in_every_size(path: Path, load_config: Callable[[str], ModuleType]) -> None:
    module = load_config(path.stem)
    sizes = ["", *(["tiny", *module.SIZES] if hasattr(module, "SIZES") else [])]
    for size in sizes:
        settings, _ = overrides.load(f"{path}:{size}" if size else str(path), [])
        assert settings == config.resolve(module.get_config(*([size] if size else [])).to_dict())


def test_origin_of_each_value_is_known() -> None:
    settings, origin = overrides.load(f"{GPT2}:tiny,run.seed=4", [("train.num_steps", "5"), ("model.num_layers", "4")])
    assert (settings.run.seed, settings.train.num_steps) == (4, 5)
    assert {name: origin[name] for name in ("run.seed", "train.num_steps", "model.num_layers")} == dict.fromkeys(
        ("run.seed", "train.num_steps", "model.num_layers"), "command line"
    )
    assert origin["model.width"] == GPT2 and origin["optimizer.beta1"] == "default"
    assert origin.keys() == {name for name, _, _ in schema.walk(config.Config)}


@pytest.mark.parametrize(
    "spec",
    [f"{GPT2}:tiny,train.num_steps=5", f"{GPT2}:train.num_steps=5", f"{GPT2},train.num_steps=5,run.seed=1", GPT2],
)
def test_argument_of_the_file_and_inline_keys_are_told_apart(spec: str) -> None:
    settings, _ = overrides.load(spec, [])
    assert settings.train.num_steps == (10_000 if spec == GPT2 else 5)
    assert settings.model.num_layers == (4 if ":tiny" in spec else 12)


def test_value_given_inline_may_hold_a_colon() -> None:
    settings, _ = overrides.load(f"{GPT2},generate.prompt=def f(): ,run.seed=1", [])
    assert (settings.generate.prompt, settings.run.seed) == ("def f(): ", 1)


@pytest.mark.parametrize("spec", [f"{GPT2}:tiny,data.paths=a,b", f"{GPT2},data.paths=a,b"])
def test_list_given_inline_is_refused_with_the_way_to_write_it(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"'b' in .* is no key=value; .*: --config\.data\.paths=a,b"):
        overrides.load(spec, [])


@pytest.mark.parametrize(
    ("spec", "workdir"),
    [
        ("configs/gpt2.py", "runs/gpt2"),
        ("configs/gpt2.py:tiny,run.seed=1", "runs/gpt2-tiny"),
        ("configs/gpt2.py:run.seed=1", "runs/gpt2"),
        ("configs/gpt2.py,run.seed=1", "runs/gpt2"),
        ("configs/gpt2.py:a/b c", "runs/gpt2-a-b-c"),
    ],
)
def test_default_workdir_is_named_by_file_and_size(spec: str, workdir: str) -> None:
    assert main._default_workdir(spec) == workdir


def test_last_of_two_values_wins() -> None:
    settings, _ = overrides.load(f"{GPT2}:tiny,run.seed=1", [("run.seed", "2"), ("run.seed", "3")])
    assert settings.run.seed == 3


def test_mistakes_of_text_and_of_range_are_listed_together() -> None:
    with pytest.raises(ConfigError) as caught:
        overrides.load(f"{GPT2}:tiny", [("train.num_steps", "many"), ("model.dropout", "2"), ("run.sed", "1")])
    assert str(caught.value).splitlines() == [
        "the configuration has 3 mistakes:",
        "  unknown key run.sed (did you mean run.seed?)",
        "  model.dropout=2.0 is too large: the most is 0.99",
        "  train.num_steps: 'many' is not an int",
    ]


def test_flag_takes_its_value_behind_a_space_or_an_equals_sign() -> None:
    given = ["--config.run.seed", "4", "--config.data.paths=a=b,c", "--config.optimizer.beta1", ".5"]
    pairs = overrides.parse(given, ("--config",))
    assert pairs == [("run.seed", "4"), ("data.paths", "a=b,c"), ("optimizer.beta1", ".5")]


def test_list_of_keys_names_each_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--list-keys"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "before a config file changes it" in printed[0]
    for name, _, _ in schema.walk(config.Config):
        assert any(line.startswith(f"{name}=") for line in printed), name


def test_list_of_keys_says_the_range_of_each_in_80_columns() -> None:
    blocks = {block.split("=")[0]: block for block in keys.listing().split("\n\n")}
    assert blocks["model.remat"].startswith("model.remat=false\n")
    assert blocks["model.dropout"].endswith("\n    a number, at least 0, at most 0.99")
    assert blocks["model.attention"].endswith("\n    one of auto, xla, cudnn")
    assert blocks["data.mix.NAME.weight"].endswith("\n    a number, at least 0")
    assert blocks["data.paths"].endswith("\n    texts, separated by commas")
    assert max(len(line) for block in blocks.values() for line in block.splitlines()) <= 80


# A-MOD-3.
@pytest.mark.parametrize(
    ("words", "name"),
    [(("fp32", "float", "float32"), "float32"), (("bf16", "bfloat16"), "bfloat16"), (("auto",), "auto")],
)
@pytest.mark.parametrize("prefix", ["", "torch."])
def test_a_mod_3_a_type_has_the_words_that_people_write(words: tuple[str, ...], name: str, prefix: str) -> None:
    for word in words:
        if word == "auto" and prefix:
            continue
        assert config.resolve(changed(model__compute_dtype=prefix + word)).model.compute_dtype == name
        made, _ = overrides.load("", [("model.compute_dtype", prefix + word)])
        assert made.model.compute_dtype == name


@pytest.mark.parametrize("word", ["float64", "fp16", "half", "torch.auto", "Float32", "bogus"])
def test_a_mod_3_a_type_that_is_none_or_not_computed_with_is_refused(word: str) -> None:
    (problem,) = problems_of(changed(model__compute_dtype=word))
    assert problem.startswith("model.compute_dtype='") and "is not one of auto, float32, bfloat16" in problem


def test_config_json_of_a_run_is_a_configuration(tmp_path: Path) -> None:
    """Settings that its version did not know are at their default; where each comes from is told."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"run_id": "a", "settings": {"run": {"seed": 7}, "data": {"paths": ["x.txt"]}}}))
    settings, origin = overrides.load(str(path), [("train.num_steps", "5")])
    assert (settings.run.seed, settings.data.paths, settings.train.num_steps) == (7, ("x.txt",), 5)
    assert (origin["run.seed"], origin["train.num_steps"]) == (str(path), "command line")
    assert origin["optimizer.beta1"] == "default"
    with pytest.raises(ConfigError, match="leave out :tiny"):
        overrides.load(f"{path}:tiny", [])
    path.write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match=r"is not the config\.json of a run"):
        overrides.load(str(path), [])
