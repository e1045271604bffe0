"""What may differ from a checkpoint, what may not, and what the user lets through by its name."""

from typing import Any

import pytest

from codex_jax import changes, config
from codex_jax.changes import Change
from codex_jax.errors import AssetError, ConfigError


def settings(**flat: Any) -> dict[str, Any]:
    nested = config.to_dict(config.Config())
    for name, value in flat.items():
        section, key = name.split("__")
        nested[section][key] = value
    return nested


def test_only_what_decides_numbers_counts() -> None:
    now = settings(optimizer__learning_rate=1.0, train__log_every=3, eval__every_steps=5, data__paths=("b",))
    assert changes.of_settings(settings(), now) == {"optimizer.learning_rate": Change(6e-4, 1.0)}


def test_key_that_an_older_version_did_not_have_is_unchanged_at_its_default() -> None:
    before = settings()
    del before["train"]["spike_factor"]
    assert changes.of_settings(before, settings()) == {}
    assert changes.of_settings(before, settings(train__spike_factor=3.0)) == {"train.spike_factor": Change(0.0, 3.0)}


def test_key_that_this_version_has_no_more_is_a_change() -> None:
    before = settings()
    before["train"]["gone"] = 7
    assert changes.of_settings(before, settings()) == {"train.gone": Change(7, None)}


def test_refusal_names_each_that_is_not_allowed_and_how_to_allow_all() -> None:
    found = {"train.num_steps": Change(10, 20), "run.seed": Change(0, 1)}
    with pytest.raises(ConfigError) as refused:
        changes.refuse(found, ("train.num_steps",), ConfigError, "it differs:", "set them back")
    assert str(refused.value) == (
        "it differs:\n  run.seed: 0 in the checkpoint, 1 now\nset them back, or go on with what is changed: "
        "--config.checkpoint.allow_change=train.num_steps,run.seed"
    )
    changes.refuse(found, ("train.num_steps", "run.seed"), AssetError, "", "")


def test_name_that_is_nothing_is_refused_with_the_nearest() -> None:
    changes.refuse_unknown(("run.seed", "data.corpus"), ["run.seed", "data.corpus"])
    with pytest.raises(ConfigError, match=r"neither a setting nor data: run.sed.*run.seed"):
        changes.refuse_unknown(("run.sed",), ["run.seed", "data.corpus"])
