"""Rules of a gitleaks.toml find what they find there; what has no equal is refused by name."""

from pathlib import Path

import pytest

from codex_jax.errors import AssetError
from codex_jax.safety import engine, gitleaks, policy


pytestmark = pytest.mark.security

GOOD = r"""
title = "ours"
[allowlist]
regexes = ['''^spare-[a-z]+$''']
stopwords = ["dummy"]

[[rules]]
id = "My-Token"
description = "a token"
regex = '''(?i)my[_-]?token\s*=\s*(?:"([a-z0-9-]{8,})"|'([a-z0-9-]{8,})')'''
keywords = ["my_token"]
entropy = 2.5
tags = ["x"]

[[rules]]
id = "second"
regex = '''(id)=([0-9]+)'''
secretGroup = 2
[[rules.allowlists]]
regexes = ["^00"]
"""


def refused(tmp_path: Path, text: str) -> str:
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(AssetError) as caught:
        gitleaks.load(tmp_path / "g.toml")
    return str(caught.value)


def test_rules_find_and_spare_as_there(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(GOOD)
    ours = engine.of(policy.load(tmp_path / "g.toml"))

    def text(said: str) -> str:
        return ours.examine(said, "train").text

    assert text('my_token = "abcd1234"') == 'my_token = "[REDACTED:my-token]"'
    assert text("MY_TOKEN = 'abcd1234'") == "MY_TOKEN = '[REDACTED:my-token]'"
    for spared in ('my_token = "aaaaaaaa"', 'my_token = "spare-me"', 'my_token = "x1Dummy9z8"', 'mytoken = "abcd1234"'):
        assert text(spared) == spared
    assert text("id=123 id=0012") == "id=[REDACTED:second] id=0012"


def test_policy_takes_rules_of_gitleaks_beside_its_own(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(GOOD)
    (tmp_path / "p.yaml").write_text("version: 1\nextends: default\ngitleaks: {file: g.toml, without: [second]}\n")
    decision = engine.of(policy.load(tmp_path / "p.yaml")).examine('my_token = "abcd1234" of a@b.org id=7', "log")
    assert decision.text == 'my_token = "[REDACTED:my-token]" of [REDACTED:email] id=7'


def test_what_has_no_equal_is_refused_by_name_and_can_be_left_out(tmp_path: Path) -> None:
    text = GOOD + "paths = ['x']\n" + (
        "[[rules]]\nid = 'file'\npath = 'x'\n"
        "[[rules]]\nid = 'line'\nregex = 'x'\n[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['y']\n"
        "[[rules]]\nid = 'bad'\nregex = '('\n[[rules]]\nid = 'new'\nregex = 'x'\nvalidate = 'cel'\n"
    )  # fmt: skip
    message = refused(tmp_path, text)
    for part in (
        "rule second, allowlist: paths; a text has none",
        "rule file: path has no equal here",
        "rule file: it has no regex",
        "rule line, allowlist: regexTarget 'line'",
        "rule bad: missing ): (",
        "rule new: validate has no equal here",
    ):
        assert part in message
    names = [rule.id for rule in gitleaks.load(tmp_path / "g.toml", ("paths", "file", "line", "bad", "new"))]
    assert names == ["my-token", "second"]


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    assert "is no gitleaks.toml" in refused(tmp_path, "a = [")
