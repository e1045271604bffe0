"""docs/safety.md says what is so: its table is the default policy, and its examples print what stands below them."""

import re
import shlex
from pathlib import Path

import pytest

from codex_jax.cli import app
from codex_jax.safety import policy, validators
from codex_jax.safety.rule import STAGES, Rule


pytestmark = pytest.mark.security

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "safety.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    pair
    for kind, text in BLOCKS
    if kind == "console"
    for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M)
]


def does(rule: Rule) -> str:
    """What the table says a rule does."""
    if not rule.enabled:
        return "off"
    stages: dict[str, list[str]] = {}
    for stage, action in rule.actions:
        stages.setdefault(action, []).append(stage)
    told = [
        action if len(of) == len(STAGES) else f"{action} at {', '.join(of)}" for action, of in sorted(stages.items())
    ]
    return "; ".join(told)


def test_table_is_the_default_policy() -> None:
    rows = [f"| `{rule.id}` | {rule.severity} | {rule.description} | {does(rule)} |" for rule in policy.default().rules]
    assert "\n".join(["| rule | severity | finds | does |", "|---|---|---|---|", *rows]) + "\n\n" in PAGE


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command[:40] for command, _ in COMMANDS])
def test_command_prints_what_stands_below_it(
    command: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _, text in BLOCKS:
        if named := re.match(r"# ([\w.-]+)\n", text):
            (tmp_path / named[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "codex-jax" and app.main(arguments) in (0, 1)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == printed.splitlines()


def test_every_key_and_validator_is_documented() -> None:
    for name in (*vars(policy.default().rules[0]).keys() - {"actions", "finds", "spares"}, *validators.VALIDATORS):
        assert f"`{name}`" in PAGE
