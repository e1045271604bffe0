"""A policy file is read whole or refused whole, with every problem in one message, whatever is in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codex_jax.errors import AssetError
from codex_jax.safety import engine, policy
from codex_jax.safety.policy import Policy


pytestmark = pytest.mark.security

RULE = {"id": "word", "patterns": "secret[0-9]+"}


def loaded(tmp_path: Path, text: str, name: str = "policy.yaml") -> Policy:
    (tmp_path / name).write_text(text)
    return policy.load(tmp_path / name)


def refused(tmp_path: Path, text: str, name: str = "policy.yaml") -> str:
    with pytest.raises(AssetError) as caught:
        loaded(tmp_path, text, name)
    return str(caught.value)


def of_rule(**keys: object) -> str:
    return json.dumps({"version": 1, "rules": [{**RULE, **keys}]})


def test_policy_stands_alone_in_yaml_and_in_json(tmp_path: Path) -> None:
    yaml = loaded(tmp_path, "version: 1\nrules:\n  - id: word\n    patterns: 'secret[0-9]+'\n")
    assert yaml == loaded(tmp_path, of_rule(), "policy.json")
    assert yaml.digest() == loaded(tmp_path, of_rule(), "policy.json").digest()
    assert engine.of(yaml).examine("a secret12 b", "train").text == "a [REDACTED:word] b"


def test_every_key_of_a_rule_is_taken(tmp_path: Path) -> None:
    keys = {"severity": "low", "keywords": ["key"], "group": 1, "entropy": 1.5, "validator": "luhn", "harmless": "0+"}
    made = loaded(tmp_path, of_rule(patterns="key ([0-9]+)", action="block", stages=["prompt"], **keys)).rules[0]
    assert (made.severity, made.keywords, made.group, made.entropy) == ("low", ("key",), 1, 1.5)
    assert (made.validator, made.harmless, made.actions) == ("luhn", ("0+",), (("prompt", "block"),))


def test_actions_may_differ_by_stage(tmp_path: Path) -> None:
    ours = engine.of(loaded(tmp_path, of_rule(action={"block": ["prompt"], "flag": ["train", "log"]})))
    verdicts = [ours.examine("secret1", stage) for stage in ("prompt", "train", "eval")]
    assert [(bool(one.blocked), [match.action for match in one.matches]) for one in verdicts] == [
        (True, ["block"]),
        (False, ["flag"]),
        (False, []),
    ]


def test_literal_is_a_whole_word_in_any_case(tmp_path: Path) -> None:
    ours = engine.of(loaded(tmp_path, json.dumps({"version": 1, "rules": [{"id": "l", "literals": ["ssn", "c++"]}]})))
    assert ours.examine("className SSN, c++.", "train").text == "className [REDACTED:l], [REDACTED:l]."


def test_policy_extends_the_default_one(tmp_path: Path) -> None:
    made = loaded(
        tmp_path,
        "version: 1\nextends: default\ndisable: [email]\nenable: [ip-address]\nforbid_bypass: true\nrules:\n"
        "  - {id: phone, patterns: 'tel-[0-9]+', action: flag}\n  - {id: employee, patterns: 'EMP-[0-9]{6}'}\n",
    )
    decision = engine.of(made).examine("a@b.org 93.184.216.34 +1 555-123-4567 tel-1 EMP-123456", "log")
    assert decision.text == "a@b.org [REDACTED:ip-address] +1 555-123-4567 tel-1 [REDACTED:employee]"
    assert made.forbid_bypass and made.digest() != policy.default().digest()


def test_fragments_stand_in_patterns(tmp_path: Path) -> None:
    text = "version: 1\nfragments: {digit: '[0-9]', pair: '{{digit}}{2}'}\nrules:\n  - {id: r, patterns: 'x{{pair}}'}\n"
    assert loaded(tmp_path, text).rules[0].patterns == ("x(?:(?:[0-9]){2})",)


def test_everything_wrong_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        "version: 2\nrule: []\nrules:\n  - id: A B\n    patterns: '('\n  - id: word\n    literals: [x]\n"
        "    acton: flag\n    stages: [trian]\n"
        "  - id: word\n    literals: [x]\n  - id: word\n    literals: [y]\n    severity: no\n"
        "    entropy: 9\n    validator: lun\n    group: 1\n    enabled: maybe\n    only: [x]\n",
    )
    for part in (
        "refused for 13 problems",
        "line 1: version has to be 1",
        "line 2: unknown key rule; did you mean rules?",
        "line 4, rule A B: an id is",
        "line 5, rule A B: the pattern ( is refused: missing ): (",
        "line 8, rule word: unknown key acton; did you mean action?",
        "line 6, rule word: unknown stage trian; did you mean train?",
        "line 14, rule word: unknown severity no",
        "line 15, rule word: entropy has to be a number of bits from 0 to 8, not 9",
        "line 16, rule word: unknown validator lun; did you mean luhn?",
        "line 17, rule word: group has to be a number from 0 to 0",
        "line 18, rule word: enabled has to be true or false",
        "only names what an allow rule may spare",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"action": "delete"}, "unknown action delete"),
        ({"action": {"flag": ["train"], "block": ["train"]}}, "the stage train stands twice"),
        ({"action": {"flag": ["train"]}, "stages": ["log"]}, "leave `stages` out"),
        ({"patterns": "a*"}, "it matches the empty text"),
        ({"patterns": "(?=x)"}, "invalid perl operator: (?="),
        ({"patterns": "[0-9]{1001}"}, "invalid repetition size"),
        ({"patterns": "{{no}}"}, "there is no fragment no"),
        ({"patterns": []}, "a rule needs patterns or literals"),
        ({"examples": {"finds": "x"}}, "finds has to be a list"),
        ({"examples": {"find": []}}, "unknown key find"),
        ({"keywords": [""]}, "none of them empty"),
        ({"description": 3}, "description has to be a string"),
        ({"harmless": "("}, "is refused"),
        ({"only": ["x"], "action": "allow"}, "only names x, and there is no such rule"),
    ],
)
def test_rule_is_refused_with_the_reason(tmp_path: Path, keys: dict[str, object], reason: str) -> None:
    assert reason in refused(tmp_path, of_rule(**keys), "policy.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a policy is a mapping"),
        ("[1, 2]", "a policy is a mapping"),
        ("version: 1", "there is no rule in it"),
        ("version: 1\nextends: other", "extends can be `default`"),
        ("version: 1\nextends: default\ndisable: [nothing]", "disable names nothing, and there is no such rule"),
        ("version: true\nrules: {}", "rules has to be a list"),
        ("version: 1\nrules: [x]", "rule number 1: a rule is a mapping"),
        ("a: [", "line 2: did not find expected node content"),
        ("a: \x01", "not YAML"),
        ("version: 1\n---\nversion: 1", "a second document"),
        ("1: x", "a key has to be a word"),
    ],
)
def test_file_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(tmp_path, text)


def test_rule_that_does_not_keep_its_examples_is_refused_without_showing_them(tmp_path: Path) -> None:
    message = refused(
        tmp_path, of_rule(examples={"finds": ["secret1", ["sec", "ret2"], "nope77"], "spares": ["secret3"]})
    )
    assert "rule word: it misses example 3 of `finds`" in message
    assert "rule word: it finds example 1 of `spares`" in message
    assert "nope77" not in message and "secret3" not in message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"no\.yaml cannot be read: No such file"):
        policy.load(tmp_path / "no.yaml")


BOMBS = {
    "laughs.yaml": 'a: &a [x, x]\n' + "".join(f"b{n}: &b{n} [*a, *a, *a, *a, *a]\n" for n in range(30)),
    "deep.yaml": "[" * 1_000_000,
    "deep-block.yaml": "".join(" " * n + "a:\n" for n in range(1_000)),
    "object.yaml": "version: !!python/object/apply:os.system ['touch marker']",
    "twice.yaml": "version: 1\nversion: 1\n",
    "large.yaml": "# " + "x" * (50 << 20),
    "fragments.yaml": "version: 1\nfragments:\n  a: xxxxxxxxxx\n"
    + "".join(f"  {chr(98 + n)}: '" + ("{{" + chr(97 + n) + "}}") * 3 + "'\n" for n in range(20)),
    "deep.json": '{"a":' * 100_000,
    "huge.json": '{"version": 1e999}',
    "digits.json": '{"version": ' + "1" * 10_000 + "}",
    "nan.json": '{"version": NaN}',
    "twice.json": '{"version": 1, "version": 1}',
    "deep.toml": "a = " + "[" * 100_000,
}  # fmt: skip
REASONS = {
    "laughs.yaml": "line 1: anchors and aliases",
    "deep.yaml": "line 1: nested deeper than 32",
    "deep-block.yaml": "line 33: nested deeper than 32",
    "object.yaml": "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system is not read",
    "twice.yaml": "line 2: the key 'version' stands twice",
    "large.yaml": "has more than 16,777,216 bytes",
    "fragments.yaml": "the most is 20,000",
    "deep.json": "nested deeper than 32",
    "huge.json": "1e999 is too large for a number",
    "digits.json": "Exceeds the limit",
    "nan.json": "NaN is not a number",
    "twice.json": "the key 'version' stands twice",
    "deep.toml": "is no gitleaks.toml",
}
CHILD = """
import pathlib, resource, sys
from codex_jax.errors import AssetError
from codex_jax.safety import policy
# Of the process before the file is read: what the file adds is what counts.
before = resource.getrusage(resource.RUSAGE_SELF)
for name in sys.argv[1:]:
    try:
        policy.load(pathlib.Path(name))
    except AssetError as error:
        print(pathlib.Path(name).name, "refused", str(error).replace("\\n", " ")[:2000])
after = resource.getrusage(resource.RUSAGE_SELF)
print("SPENT", after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) // 1024)
"""


def test_bombs_are_refused_in_bounded_time_and_memory(tmp_path: Path, main_env: dict[str, str]) -> None:
    for name, text in BOMBS.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in BOMBS]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *paths], env=main_env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *lines, spent = done.stdout.splitlines()
    for line, name in zip(lines, BOMBS, strict=True):
        assert line.startswith(f"{name} refused") and REASONS[name] in line
    _, seconds, megabytes = spent.split()
    # The processor's seconds, of all of them together: an exponential one would take years.
    assert float(seconds) < 10 and int(megabytes) < 200
    assert not (tmp_path / "marker").exists()


def test_large_file_without_tricks_is_read(tmp_path: Path) -> None:
    words = "".join(f"      - [a word, and {number} more, {'x' * 60}]\n" for number in range(3_000))
    text = (
        "version: 1\nrules:\n  - id: r\n    patterns: zz9\n    examples:\n      finds: [zz9]\n      spares:\n" + words
    )
    text += "# " + "x" * (6 << 20) + "\n"
    assert len(loaded(tmp_path, text).rules[0].spares) == 3_000
