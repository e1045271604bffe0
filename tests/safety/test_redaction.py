"""Every rule finds what it names and spares what looks like it, at the right place, and leaves no trace of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.safety import engine
from codex_jax.safety.rules import RULES, Rule


pytestmark = pytest.mark.security

FINDS = [(rule, text) for rule in RULES for text in rule.finds]
SPARES = [(rule, text) for rule in RULES for text in rule.spares]


@pytest.mark.parametrize(("rule", "text"), FINDS, ids=lambda part: part.name if isinstance(part, Rule) else "")
@pytest.mark.parametrize("frame", ["{}", "ключ 🔑 = '{}'\n", "é\n{}\nü"])
def test_rule_redacts_example_in_any_surroundings(rule: Rule, text: str, frame: str) -> None:
    whole = frame.format(text)
    redacted = engine.default().redact(whole)
    assert {finding.rule for finding in redacted.findings} == {rule.name}
    for finding in redacted.findings:
        assert whole[finding.start : finding.end] in text
        assert whole[finding.start : finding.end] not in redacted.text
    assert [piece for piece, learnt in redacted.pieces if not learnt] == [f"[REDACTED:{rule.name}]"] * len(
        redacted.findings
    )


@pytest.mark.parametrize(("rule", "text"), SPARES, ids=lambda part: part.name if isinstance(part, Rule) else "")
def test_rule_spares_lookalike(rule: Rule, text: str) -> None:
    assert engine.default().redact(text).findings == []


def test_private_key_is_redacted_with_its_whole_body() -> None:
    body = "MIIEpAIBAAKCAQEAx7Vq0B4y" * 2
    text = f"a\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n{body}\nab==\n-----END RSA PRIVATE KEY-----\nb"
    assert engine.default().redact(text).text == "a\n[REDACTED:private-key]\nb"


def test_offsets_count_characters_behind_multibyte_text() -> None:
    secret = "ghp_" + "a1B2" * 9
    (finding,) = engine.default().redact(f"日本語 é {secret} ü").findings
    assert (finding.start, finding.end) == (6, 6 + len(secret))


def test_overlapping_findings_become_one_placeholder() -> None:
    rules = (Rule("long", "a+b+", (), ()), Rule("short", "b+c", (), ()))
    redacted = engine.Engine(rules).redact("xaabbcy")
    assert redacted.pieces == [("x", True), ("[REDACTED:long]", False), ("y", True)]


def test_redaction_does_not_show_what_it_found() -> None:
    secret = "glpat-" + "xY3_" * 5
    assert secret not in repr(engine.default().redact(f"token = {secret}"))


def test_policy_digest_changes_with_a_pattern() -> None:
    changed = (RULES[0]._replace(pattern="x"), *RULES[1:])
    assert engine.Engine(changed).policy_digest() != engine.default().policy_digest()
    assert engine.Engine(RULES).policy_digest() == engine.default().policy_digest()


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_clean_text_comes_back_unchanged(text: str) -> None:
    redacted = engine.default().redact(text)
    if not redacted.findings:
        assert redacted.text == text


@given(st.lists(st.one_of(st.sampled_from([text for _, text in FINDS + SPARES]), st.text(max_size=9)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_second_pass_finds_nothing(parts: list[str]) -> None:
    once = engine.default().redact("\n".join(parts)).text
    assert engine.default().redact(once).text == once


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a@" * 500_000, "A1+/" * 250_000, "-----BEGIN " * 90_000])
def test_long_hostile_text_takes_linear_time(text: str) -> None:
    # A backtracking engine needs hours for these; linear time is well under a second even on a busy machine.
    assert engine.default().redact(text).text == text


def test_mark_of_an_earlier_redaction_is_not_learnt_and_is_no_finding() -> None:
    once = engine.default().redact(f"token {'ghp_' + 'a1B2' * 9} of é@ and a@example.org")
    again = engine.default().redact(once.text)
    assert again.pieces == once.pieces and again.findings == []
    assert engine.default().redact("[REDACTED:nothing]").pieces == [("[REDACTED:nothing]", True)]
