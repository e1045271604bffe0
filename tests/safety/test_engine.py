"""The engine redacts, blocks, flags and allows at the right place in any text, and shows nothing of what it found."""

import concurrent.futures
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.safety import engine, policy
from codex_jax.safety.engine import Decision, Engine
from codex_jax.safety.policy import Policy
from codex_jax.safety.rule import STAGES, Rule


pytestmark = pytest.mark.security

RULES = policy.default().rules
EXAMPLES = [text for rule in RULES for text in (*rule.finds, *rule.spares)]


def doing(action: str) -> tuple[tuple[str, str], ...]:
    return tuple((stage, action) for stage in STAGES)


def engine_of(*rules: Rule) -> Engine:
    return Engine(Policy(rules=rules))


def examine(text: str) -> Decision:
    return engine.default().examine(text, "train")


def test_private_key_is_redacted_with_its_whole_body() -> None:
    body = "MIIEpAIBAAKCAQEAx7Vq0B4y" * 2
    text = f"a\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n{body}\nab==\n-----END RSA PRIVATE KEY-----\nb"
    assert examine(text).text == "a\n[REDACTED:private-key]\nb"


def test_offsets_count_characters_behind_multibyte_text() -> None:
    secret = "ghp_" + "a1B2" * 9
    (match,) = examine(f"日本語 é {secret} ü").matches
    assert (match.start, match.end) == (6, 6 + len(secret))


def test_overlapping_findings_become_one_placeholder() -> None:
    ours = engine_of(Rule(id="long", patterns=("a+b+",)), Rule(id="short", patterns=("b+c",), severity="critical"))
    decision = ours.examine("xaabbcy", "train")
    assert decision.pieces == [("x", True), ("[REDACTED:long]", False), ("y", True)]
    assert decision.matches == [("long", "redact", "critical", 1, 6)]


def test_longest_of_findings_that_begin_together_names_them() -> None:
    ours = engine_of(Rule(id="short", patterns=("ab",)), Rule(id="long", patterns=("abc",)))
    assert ours.examine("abcd", "log").text == "[REDACTED:long]d"


def test_decision_does_not_show_what_was_found() -> None:
    secret = "glpat-" + "xY3_" * 5
    assert secret not in repr(examine(f"token = {secret}"))


def test_block_is_named_and_redacted() -> None:
    ours = engine_of(Rule(id="no", patterns=("forbidden",), actions=doing("block")), Rule(id="s", patterns=(r"S\d+",)))
    decision = ours.examine("forbidden S12", "prompt")
    assert decision.blocked == ("no",)
    assert decision.text == "[REDACTED:no] [REDACTED:s]"


def test_flag_is_told_and_changes_nothing() -> None:
    decision = engine_of(Rule(id="f", patterns=("word",), actions=doing("flag"))).examine("a word", "eval")
    assert decision.pieces == [("a word", True)]
    assert decision.matches == [("f", "flag", "high", 2, 6)] and decision.blocked == ()


def test_findings_share_what_stands_between_them() -> None:
    ours = engine_of(Rule(id="f", patterns=("[ ,](k[0-9])[ ,]",), actions=doing("flag")))
    assert [match.start for match in ours.examine(" k1 k2,k3 ", "eval").matches] == [1, 4, 7]


def test_rule_is_silent_at_other_stages() -> None:
    ours = engine_of(Rule(id="r", patterns=("word",), actions=(("output", "redact"), ("prompt", "block"))))
    assert ours.examine("word", "train") == ([("word", True)], [], ())
    assert ours.examine("word", "output").blocked == () and ours.examine("word", "prompt").blocked == ("r",)


def test_allow_spares_only_what_it_overlaps() -> None:
    ours = engine_of(
        Rule(id="deny", patterns=("drop [a-z]+",), actions=doing("block")),
        Rule(id="allow", patterns=("drop example",), actions=doing("allow")),
    )
    decision = ours.examine("drop example; drop all", "prompt")
    assert decision.text == "drop example; [REDACTED:deny]" and decision.blocked == ("deny",)
    assert ours.examine("drop example", "prompt") == ([("drop example", True)], [], ())


def test_allow_spares_only_the_rules_it_names() -> None:
    ours = engine_of(
        Rule(id="a", patterns=("word one",)),
        Rule(id="b", patterns=("one",), actions=doing("flag")),
        Rule(id="allow", patterns=("word",), actions=doing("allow"), only=("b",)),
    )
    assert [match.rule for match in ours.examine("word one", "train").matches] == ["a", "b"]


def test_disabled_rule_is_not_there() -> None:
    assert engine_of(Rule(id="r", patterns=("word",), enabled=False)).examine("word", "train").matches == []


@pytest.mark.parametrize(
    ("keyword", "opens"), [("number", ("number", "NUMBER", "Number")), ("Number", ("Number",)), ("№", ("№",))]
)
def test_keyword_opens_a_rule_in_any_case_or_as_written_with_a_capital(keyword: str, opens: tuple[str, ...]) -> None:
    ours = engine_of(Rule(id="r", patterns=(r"\d+",), keywords=(keyword,)))
    for word in ("number", "NUMBER", "Number", "№", ""):
        assert bool(ours.examine(f"{word} 123", "train").matches) is (word in opens)


def test_rules_that_are_too_much_for_one_automaton_are_all_in_force() -> None:
    rules = [Rule(id=f"r{number}", patterns=(rf"{number}\pL{{90}}",)) for number in range(8)]
    decision = engine_of(*rules).examine(" ".join(f"{number}{'ж' * 90}" for number in range(8)), "train")
    assert [match.rule for match in decision.matches] == [rule.id for rule in rules]


def test_digest_changes_with_what_decides_and_not_with_words() -> None:
    digest = engine.default().policy_digest()
    for change, same in (({"patterns": ("x",)}, False), ({"keywords": ("x",)}, False), ({"description": "x"}, True)):
        rules = (Rule(**{**vars(RULES[0]), **change}), *RULES[1:])
        assert (engine_of(*rules).policy_digest() == digest) is same


def test_engine_survives_pickling() -> None:
    ours = engine_of(Rule(id="r", patterns=("word",)))
    assert pickle.loads(pickle.dumps(ours)).examine("a word", "train").text == "a [REDACTED:r]"


def test_threads_share_an_engine() -> None:
    texts = [f"{number} {text} {number}" for number in range(4) for text in EXAMPLES[:40]]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(examine, texts)) == [examine(text) for text in texts]


def test_placeholder_of_a_rule_is_left_alone_and_what_looks_like_one_is_not() -> None:
    ours = engine_of(Rule(id="r", patterns=(r"=(\S+)",)))
    assert ours.examine("a=[REDACTED:r] b=x[REDACTED:r]y", "log").text == (
        "a=[REDACTED:r] b=[REDACTED:r][REDACTED:r][REDACTED:r]"
    )
    assert ours.examine("a=[REDACTED:other]", "log").text == "a=[REDACTED:r]"


def test_what_a_placeholder_uncovers_is_redacted_at_once() -> None:
    ours = engine_of(Rule(id="k", patterns=(r"\bk\d\d",)))
    once = ours.examine("k12k34k56", "train")
    assert once.text == "[REDACTED:k]" * 3 and ours.examine(once.text, "train").text == once.text
    assert [(match.start, match.end) for match in once.matches] == [(0, 3), (3, 6), (6, 9)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n\t",
        "\0",
        "\x01\x02\x7f",
        "a\r\nb\rc\n",
        "日本語のテキスト",
        "نص عربي",
        "👩\u200d👩\u200d👧",
        "e\u0301",
        "a\u200bb",
        r"\ ^ $ . | ? * + ( ) [ ] { }",
        "[REDACTED:",
        "\ud83d",
        "x" * 1_000_000,
        "word " * 200_000,
    ],
    ids=lambda text: ascii(text[:9]),
)
@pytest.mark.parametrize("stage", STAGES)
def test_clean_text_comes_back_as_it_was(text: str, stage: str) -> None:
    assert engine.default().examine(text, stage) == ([(text, True)] if text else [], [], ())


@given(st.lists(st.one_of(st.sampled_from(EXAMPLES), st.text(max_size=9)), max_size=8), st.sampled_from(STAGES))
@settings(max_examples=200, deadline=None)
def test_pieces_and_matches_tell_the_same_story(parts: list[str], stage: str) -> None:
    text = " ".join(parts)
    decision = engine.default().examine(text, stage)
    done, rebuilt = 0, []
    for match in (match for match in decision.matches if match.action != "flag"):
        rebuilt += [text[done : match.start], f"[REDACTED:{match.rule}]"]
        done = match.end
    assert "".join([*rebuilt, text[done:]]) == decision.text
    assert decision.matches == sorted(decision.matches, key=lambda match: match.start)


@given(
    st.lists(st.one_of(st.sampled_from(EXAMPLES), st.text(max_size=9)), max_size=8), st.sampled_from(["\n", " ", ""])
)
@settings(max_examples=300, deadline=None)
def test_second_pass_changes_nothing(parts: list[str], between: str) -> None:
    once = examine(between.join(parts)).text
    assert examine(once).text == once


HOSTILE = {
    "letters": "a" * 1_000_000,
    "at": "a@" * 500_000,
    "base64": "A1+/" * 250_000,
    "key heads": "-----BEGIN " * 90_000,
    "spaces": "password = " + " " * 1_000_000,
    "digits": "1234 " * 200_000,
    "run and mark": "a" * 1_000 + "!",
    "unseen": "a\u200b" * 300_000,
    "equals": "key=" * 250_000,
    "quotes": "secret: '" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_long_hostile_text_takes_linear_time(name: str) -> None:
    # A backtracking engine needs hours for these; linear time is about a second even on a busy machine.
    assert examine(HOSTILE[name]).text == HOSTILE[name]


def test_many_findings_take_linear_time() -> None:
    text = "user@" + "example.com "
    decision = examine(text * 30_000)
    assert len(decision.matches) == 30_000


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*a){25}", r"(\s*,?\s*)+x"])
def test_pattern_that_ruins_a_backtracking_engine_takes_linear_time(pattern: str) -> None:
    ours = engine_of(Rule(id="r", patterns=(pattern,)))
    for text in ("a" * 50_000 + "!", " " * 100_000, "," * 50_000):
        ours.examine(text, "train")


def test_placeholder_of_an_earlier_time_is_not_learnt_and_is_no_finding() -> None:
    once = engine.default().examine(f"token {'ghp_' + 'a1B2' * 9} of é@ and a@example.org", "train")
    again = engine.default().examine(once.text, "train")
    assert again.pieces == once.pieces and again.matches == []
    assert engine.default().examine("[REDACTED:nothing]", "train").pieces == [("[REDACTED:nothing]", True)]
