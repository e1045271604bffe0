"""The gate: stages, blocked texts, a bypass that is loud, a classifier that fails closed, and hashes under a key."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codex_jax import config, console
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import bypass, gate


pytestmark = pytest.mark.security

SECRET = "ghp_" + "a1B2" * 9
POLICY = """
version: 1
rules:
  - {id: forbidden, literals: [forbidden], action: block}
  - {id: number, patterns: 'SECRET[0-9]+', action: redact}
  - {id: odd, literals: [strange], action: flag}
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def of(**values: Any) -> gate.Gate:
    return gate.of(dataclasses.replace(config.Safety(), **values))


def short(text: str, stage: str) -> bool:
    return len(text) < 10 or stage == "log"


def broken(text: str, stage: str) -> bool:
    raise RuntimeError(f"cannot judge {text}")


def test_a_text_is_blocked_redacted_or_flagged_as_its_rules_say(policy: str) -> None:
    verdict = of(policy=policy).examine("forbidden SECRET123, strange", "prompt")
    assert verdict.blocked == ("forbidden",)
    assert verdict.text == "[REDACTED:forbidden] [REDACTED:number], strange"
    assert verdict.shown == "[BLOCKED:forbidden]"
    assert [(found.rule, found.action) for found in verdict.findings] == [
        ("forbidden", "block"),
        ("number", "redact"),
        ("odd", "flag"),
    ]


def test_a_bypass_lets_through_and_says_so_and_shows_nothing(policy: str) -> None:
    verdict = of(policy=policy, bypass=True, bypass_reason="a test").examine("forbidden SECRET123", "train")
    assert verdict.blocked == () and "forbidden " not in verdict.text and "SECRET123" not in verdict.text
    assert [found.action for found in verdict.findings] == ["bypass", "redact"]


@pytest.mark.parametrize(
    ("off", "setting", "told"),
    [
        ({"bypass": True}, "safety.bypass=true", "what the policy blocks is let through"),
        ({"enabled": False}, "safety.enabled=false", "secrets and personal data pass as they are"),
        ({"enabled": False, "bypass": True}, "safety.enabled=false", "secrets and personal data pass as they are"),
    ],
)
def test_what_is_let_through_is_said_and_tagged_with_its_reason(
    off: dict[str, bool], setting: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.prepare()  # what was said of another command does not count
    found = of(bypass_reason="a drill", **off).bypass
    assert found == (off.get("enabled", True), off.get("bypass", False), "a drill")
    assert found.tags == {"safety.bypass": "a drill"}
    bypass.announce(found)
    assert capsys.readouterr().err == f"codex_jax: {setting}: {told}. The reason given: a drill\n"


def test_a_reason_that_is_kept_for_another_time_lets_nothing_through(capsys: pytest.CaptureFixture[str]) -> None:
    made = of(bypass_reason="a drill")
    bypass.announce(made.bypass)
    assert made.bypass is None and capsys.readouterr().err == ""


def test_the_reason_of_a_bypass_is_kept_as_it_may_be_shown() -> None:
    found = of(bypass=True, bypass_reason=f"{SECRET} is a fake").bypass
    assert found and found.reason == "[REDACTED:github-token] is a fake"


def test_a_rule_against_a_word_may_bear_that_word(policy: str) -> None:
    event = {"rule": "forbidden", "action": "block", "file": "forbidden.txt", "parts": [{"rule": "forbidden"}]}
    shown = of(policy=policy).outward(event)
    assert shown == {**event, "file": "[BLOCKED:forbidden]"}


@pytest.mark.parametrize("off", [{"bypass": True}, {"enabled": False}])
def test_a_policy_can_forbid_a_bypass(off: dict[str, bool], policy: str) -> None:
    Path(policy).write_text(POLICY + "forbid_bypass: true\n")
    with pytest.raises(ConfigError, match=r"safety\.(bypass|enabled)=\w+ is forbidden by the policy .*policy\.yaml"):
        of(policy=policy, bypass_reason="a test", **off)


@pytest.mark.parametrize("off", [{"bypass": True}, {"enabled": False}])
def test_a_bypass_without_a_reason_is_a_mistake(off: dict[str, bool]) -> None:
    settings = config.default().to_dict()
    settings["safety"].update(off)
    with pytest.raises(
        ConfigError, match=r"needs a reason, .* safety\.bypass_reason=WHY, .* CODEX_SAFETY_BYPASS_REASON"
    ):
        config.resolve(settings)


def test_a_policy_that_is_missing_or_broken_is_refused_and_none_takes_its_place(policy: str, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"safety\.policy=.*nowhere\.yaml is not a file"):
        of(policy=str(tmp_path / "nowhere.yaml"))
    Path(policy).write_text(POLICY.replace("action: flag", "action: frag"))
    with pytest.raises(AssetError, match=r"policy\.yaml"):
        of(policy=policy)


@pytest.mark.parametrize("name", ["short", "broken"])
def test_what_a_classifier_does_not_call_true_is_blocked(name: str) -> None:
    made = of(classifier=f"{__name__}:{name}")
    verdict = made.examine("a longer text", "train")
    assert verdict.blocked == ("classifier",) and verdict.shown == "[BLOCKED:classifier]"
    assert (made.examine("a text", "train").blocked == ()) == (name == "short")
    assert made.content() != of().content()
    assert pickle.loads(pickle.dumps(made)).examine("a longer text", "train") == verdict


def test_what_decides_is_told_apart(policy: str, tmp_path: Path, main_env: dict[str, str]) -> None:
    told = [of().content(), of(policy=policy).content()]
    told += [of(policy=policy, bypass=True, bypass_reason="a test").content()]
    told += [of(policy=policy, enabled=False, bypass_reason="a test").content()]
    ask = "from codex_jax import config\nfrom codex_jax.safety import gate\n"
    ask += "print(gate.of(config.Safety(classifier='judges:judge')).content())"
    for verdict in ("True", "False"):
        (tmp_path / "judges.py").write_text(f"def judge(text, stage): return {verdict}\n")
        done = subprocess.run([sys.executable, "-c", ask], env=main_env, cwd=tmp_path, capture_output=True, text=True)
        told.append(done.stdout.strip())
    assert told[3] == "off" and "" not in told and len(set(told)) == 6


def test_policy_that_was_changed_is_read_again(policy: str) -> None:
    of(policy=policy)
    Path(policy).write_text(POLICY.replace("forbidden", "unwanted"))
    assert of(policy=policy).examine("forbidden, unwanted", "prompt").blocked == ("unwanted",)


def test_fact_that_may_not_be_seen_is_told_by_its_digest_and_others_as_they_are() -> None:
    facts = {"path": f"s3://x/{SECRET}", "files": ["a.txt", 3], "of": [SECRET]}
    named, again = of().named(facts), of().named({**facts, "of": [SECRET[:-1] + "x"]})
    assert SECRET not in repr(named) and named["files"] == ["a.txt", 3]
    assert named["path"].startswith("sha256 ") and named["path"] == again["path"] and named["of"] != again["of"]


@pytest.mark.parametrize("name", ["nowhere:judge", f"{__name__}:SECRET", f"{__name__}:nothing", "short"])
def test_a_classifier_that_is_none_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match=r"safety\.classifier="):
        of(classifier=name)


def test_hashes_tell_alike_from_unlike_under_one_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashes() -> list[str]:
        findings = of().examine(f"{SECRET} and {SECRET} and {SECRET[:-1]}x", "train").findings
        return [found.hash for found in findings]

    first = hashes()
    assert first == hashes() and first[0] == first[1] != first[2]
    monkeypatch.setenv("CODEX_SAFETY_AUDIT_KEY", "another")
    assert not {*first} & {*hashes()}
    assert {found.hash for found in of().unkeyed().examine(SECRET, "train").findings} == {""}


def test_the_key_is_readable_by_its_owner_only(cache_dir: Path) -> None:
    of()
    assert (cache_dir / "safety" / "audit.key").stat().st_mode & 0o777 == 0o600


def test_nothing_of_a_secret_is_in_what_goes_outward_or_is_said() -> None:
    made = of()
    value = {"path": f"s3://x/{SECRET}", "argv": ["--key", SECRET, 3], "deep": {"reason": f"as {SECRET} says"}}
    assert SECRET not in repr(made.outward(value)) and made.outward(value)["argv"][2] == 3
    assert SECRET not in repr(made.examine(SECRET, "train")) and made.key.decode() not in repr(made)
