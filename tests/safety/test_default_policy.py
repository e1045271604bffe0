"""Every rule of the default policy finds what it names and spares what looks like it, in any surroundings."""

import pytest

from codex_jax.safety import engine, policy
from codex_jax.safety.rule import Rule


pytestmark = pytest.mark.security

RULES = policy.default().rules
ACTIVE = [rule for rule in RULES if rule.enabled and {action for _, action in rule.actions} != {"allow"}]
FINDS = [(rule, text) for rule in ACTIVE for text in rule.finds]
SPARES = [(rule, text) for rule in ACTIVE for text in rule.spares]


def name(part: object) -> str:
    return part.id if isinstance(part, Rule) else ""


def test_every_rule_does_what_its_examples_say() -> None:
    assert list(policy.unkept(RULES)) == []


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_every_rule_has_both_kinds_of_examples_and_says_what_it_is(rule: Rule) -> None:
    assert rule.finds and rule.spares and rule.description


@pytest.mark.parametrize(("rule", "text"), FINDS, ids=name)
@pytest.mark.parametrize("frame", ["{}", "ключ 🔑\n{}\n", "é\n{}\nü"])
def test_example_is_found_in_any_surroundings(rule: Rule, text: str, frame: str) -> None:
    whole = frame.replace("{}", text)
    stage = rule.actions[0][0]
    decision = engine.default().examine(whole, stage)
    assert rule.id in {match.rule for match in decision.matches}
    for match in decision.matches:
        assert whole[match.start : match.end] in text
        assert match.action == "flag" or whole[match.start : match.end] not in decision.text
    placeholders = [piece for piece, learnt in decision.pieces if not learnt]
    assert len(placeholders) == sum(match.action != "flag" for match in decision.matches)


@pytest.mark.parametrize(("rule", "text"), SPARES, ids=name)
def test_lookalike_is_spared_by_every_rule(rule: Rule, text: str) -> None:
    assert engine.default().examine(text, "train").matches == []
