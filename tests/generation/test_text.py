"""Prompts to text: stop strings, the safety policy, and what may be shown while a text is being written."""

from pathlib import Path

import pytest
import reciter

from codex_jax.errors import ConfigError
from codex_jax.generation import text


pytestmark = [pytest.mark.model, pytest.mark.security]

KEY = "AK" + "IA" + "QYLPMN5HHHFPZAM2"
MAIL = "jane.doe" + "@" + "wombat-mail.com"
BEFORE = "The wombat digs a burrow, and sleeps in it by day. " * 3
# The secret is in 24-byte tokens' places, over several looks at the text, and is followed by more than is held back.
WORDS = f"{BEFORE}Its key is {KEY} and mail goes to {MAIL}. {BEFORE * 3}\nIt eats grass.\n"


def test_a_text_is_continued_to_its_end() -> None:
    voice = reciter.reciter("Once upon a time there was a wombat.")
    assert voice("Once upon") == "Once upon a time there was a wombat."
    assert voice("Once upon", num_tokens=7) == "Once upon a time"
    (answer,) = voice.answers(["Once upon a"])
    assert answer == ("Once upon a", " time there was a wombat.", 25, ())


@pytest.mark.parametrize("stop", [("there",), ("a wombat", "there was"), ("t", "nothing")])
def test_stop_strings_end_the_text_before_them(stop: tuple[str, ...]) -> None:
    voice = reciter.reciter("Once upon a time there was a wombat.")
    whole = " a time there was a wombat."
    (answer,) = voice.answers(["Once upon"], stop=stop)
    assert answer.text == whole[: min(whole.find(one) for one in stop if one in whole)]
    assert answer.num_tokens < len(whole)  # it is not written to its end
    assert "".join(voice.stream("Once upon", stop=stop)) == "Once upon" + answer.text


def test_secrets_are_redacted_and_never_streamed() -> None:
    voice = reciter.reciter(WORDS)
    whole = voice("The wombat")
    assert "[REDACTED:aws-key]" in whole and "[REDACTED:email]" in whole and whole.endswith("It eats grass.\n")
    pieces = list(voice.stream("The wombat"))
    assert "".join(pieces) == whole
    assert len([piece for piece in pieces if piece]) > 20  # while it is written, and not at the end
    said = ""
    for piece in pieces:
        said += piece
        assert not any(secret[:7] in said for secret in (KEY, MAIL))


def test_a_secret_that_the_prompt_begins_is_found() -> None:
    voice = reciter.reciter(f"key {KEY} is it")
    (answer,) = voice.answers([f"key {KEY[:9]}"])
    assert answer.prompt + answer.text == "key [REDACTED:aws-key] is it"
    assert "".join(voice.stream(f"key {KEY[:9]}")) == "key [REDACTED:aws-key] is it"


def policy(directory: Path, action: str, pattern: str) -> str:
    path = directory / "policy.yaml"
    path.write_text(f"version: 1\nrules:\n  - {{id: word, patterns: '{pattern}', action: {action}}}\n")
    return str(path)


def test_blocked_texts_are_not_shown(tmp_path: Path) -> None:
    rules = policy(tmp_path, "block", "eats grass")
    voice = reciter.reciter(WORDS, policy=rules)
    assert voice("The wombat") == "[BLOCKED:word]"
    streamed = "".join(voice.stream("The wombat"))
    assert "grass" not in streamed and streamed.endswith("[BLOCKED:word]")
    with pytest.raises(ConfigError, match=r"the prompt is blocked by the safety policy \(word\)"):
        voice("It eats grass")


def test_what_a_rule_takes_back_ends_the_stream(tmp_path: Path) -> None:
    voice = reciter.reciter(WORDS, policy=policy(tmp_path, "redact", "digs(?s:.)*grass"))
    assert voice("The") == "The wombat [REDACTED:word].\n"
    streamed = "".join(voice.stream("The"))
    assert streamed.endswith("[what follows is not shown by the safety policy]") and "grass" not in streamed


def test_rows_of_a_batch_are_what_each_is_alone() -> None:
    voice = reciter.reciter("Once upon a time there was a wombat.")
    prompts = ["Once", "Once upon a time", "O"]
    assert voice.answers(prompts, batch=2) == [voice.answers([prompt])[0] for prompt in prompts]


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ("", {}, "the prompt is empty"),
        ("x" * 1020, {"num_tokens": 20}, "a prompt of 1020 tokens and num_tokens=20 are more than the 1024"),
        ("x", {"top_q": 1}, r"unknown setting top_q \(did you mean top_"),
        ("x", {"top_p": 1.5, "top_k": -1}, "2 mistakes"),
    ],
)
def test_wrong_calls_are_named(prompt: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reciter.reciter("x").answers([prompt], **changes)  # type: ignore[arg-type]


def test_held_back_is_what_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "generation.md").read_text()
    assert f"last {text.HELD_BACK} characters" in page
