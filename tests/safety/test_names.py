"""Nested data loses what stands under the name of a secret and what a text holds, and nothing of this program's own."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from codex_jax import config, schema
from codex_jax.safety import engine, gate, names


pytestmark = pytest.mark.security


def of(**values: Any) -> gate.Gate:
    return gate.of(dataclasses.replace(config.Safety(), **values))


def test_values_under_names_of_secrets_are_replaced_and_others_kept() -> None:
    data = {
        "user": "jane",
        "login": {"password": "it is 'quoted', and long", "api_key": 12345678, "tries": 3, "password_hint": None},
        "hosts": [{"clientSecret": "x"}, "of a@b.org", ("plain", 1.5)],
        "passphrase": ["short", {"note": "kept"}, ["x"]],
        "tokens": 1024,
        "use_password": True,
        "secret": "",
        7: "a number as a name",
    }
    assert of().outward(data) == {
        "user": "jane",
        "login": {
            "password": "[REDACTED:password]",
            "api_key": "[REDACTED:secret-value]",
            "tries": 3,
            "password_hint": None,
        },
        "hosts": [{"clientSecret": "[REDACTED:secret-value]"}, "of [REDACTED:email]", ["plain", 1.5]],
        "passphrase": ["[REDACTED:password]", {"note": "kept"}, ["[REDACTED:password]"]],
        "tokens": 1024,
        "use_password": True,
        "secret": "",
        7: "a number as a name",
    }


def test_no_name_of_a_setting_is_that_of_a_secret() -> None:
    """Settings are never hidden for their names: one that is to hold a secret must not become one."""
    known = [name for name, _ in schema.flatten(dataclasses.asdict(config.Config()))]
    known += [f"data.mix.prose.{field.name}" for field in dataclasses.fields(config.Ingredient)]
    parts = {part for name in known for part in (name, *name.split("."))}
    assert {part: rule for part in parts if (rule := names.rule_of(part, engine.default()))} == {}


def test_a_rule_that_takes_a_setting_for_a_secret_does_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "wallets.yaml"
    pattern = r"""(?i)\b(?:seed|mnemonic)["']?\s*[:=]\s*["']?([\w-]+)"""
    path.write_text(f"version: 1\nrules:\n  - id: wallet\n    patterns: '{pattern.replace(chr(39), chr(39) * 2)}'\n")
    made = of(policy=str(path))
    data = {"data": {"seed": 7}, "mnemonic": "zoo", "safety": {"redact/wallet": 3}}
    assert made.outward(data) == {**data, "mnemonic": "[REDACTED:wallet]"}


def test_a_rule_that_finds_any_long_word_says_nothing_of_names(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("version: 1\nrules:\n  - {id: long, patterns: '[A-Za-z0-9-]{12,}'}\n")
    shown = of(policy=str(path)).outward({"password": "short", "note": "abcdefghijkl"})
    assert shown == {"password": "short", "note": "[REDACTED:long]"}


def test_a_rule_against_the_name_itself_does_not_hide_what_stands_under_it(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("version: 1\nrules:\n  - {id: heron, literals: [heron]}\n")
    assert of(policy=str(path)).outward({"heron": "a bird"}) == {"heron": "a bird"}


def test_counts_by_rule_are_shown_and_nothing_is_hidden_where_safety_is_off() -> None:
    counts = {"redact/password": 3, "bypass/secret-value": 1}
    assert of().outward({"safety": counts}) == {"safety": counts}
    assert of(enabled=False).outward({"password": "short"}) == {"password": "short"}
