"""The labelled corpus of the safety filter: its values, its labels, and how a filter is scored on it."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from corpus import draw, personal, samples, score, tokens

from codex_jax.safety import engine


pytestmark = pytest.mark.security

CORPUS = Path(samples.__file__).parent


def find(text: str) -> tuple[Sequence[score.Found], str]:
    decision = engine.default().examine(text, "train")
    found = [match for match in decision.matches if match.action in ("block", "redact")]
    return [score.Found(match.rule, match.start, match.end) for match in found], decision.text


def find_nothing(text: str) -> tuple[Sequence[score.Found], str]:
    return [], text


def find_all(text: str) -> tuple[Sequence[score.Found], str]:
    return [score.Found("all", 0, len(text))], ""


def test_corpus_is_a_function_of_its_seed() -> None:
    assert samples.make(1, 5) == samples.make(1, 5) == samples.make(1, 6)[0:5] + samples.make(1, 5)[5:]
    assert samples.make(1, 5) != samples.make(2, 5)


def test_labels_are_where_the_values_are() -> None:
    rng = random.Random(0)
    core = samples.Core("a é\n<b>", [(2, 3), (4, 7)])
    text, places = samples.mapped(core, lambda part: part.replace("\n", "\r\n"))
    assert [text[start:end] for start, end in places] == ["é", "<b>"]
    for kind in (*tokens.names(), *personal.kinds()):
        value, place = (tokens if kind in tokens.names() else personal).make(rng, kind)
        filled, spans = draw.fill(rng, place, {"v": value})
        assert [filled[start:end] for start, end in spans] == [value], kind


def test_checksums_agree_with_published_examples() -> None:
    # ISO 13616, ICAO 9303, ISO 7812; the checksum of a token is held by its own length and alphabet.
    assert personal.iban_check("GB", "WEST12345698765432") == "82"
    assert [personal.mrz_digit(field) for field in ("L898902C3", "740812", "120415")] == ["6", "2", "9"]
    assert personal.luhn("7992739871") == 3


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_corpus_files_hold_nothing_to_redact(path: Path) -> None:
    if path.is_file():
        assert find(path.read_text("utf-8"))[0] == []


def test_score_counts_what_stays_and_what_is_taken_in_vain() -> None:
    corpus = samples.make(3, 4)
    nothing, everything = score.score(corpus, find_nothing), score.score(corpus, find_all)
    assert not nothing.alarms and all(nothing.group_recall(group).value == 0 for group in samples.GROUPS)
    assert not everything.misses and all(everything.group_recall(group).value == 1 for group in samples.GROUPS)
    assert len(everything.alarms) >= len(corpus) / 2
    assert score.Rate(97, 100).interval() == pytest.approx((0.9155, 0.9897), abs=5e-4)


def test_value_found_in_part_counts_as_missed() -> None:
    sample = samples.Sample("key=abcdef", [samples.Span("generic", "x", 4, 10)])
    for start, end in ((4, 9), (5, 10), (0, 4)):
        assert score.score([sample], lambda _, a=start, b=end: ([score.Found("r", a, b)], "")).misses
    assert score.score([sample], lambda _: ([score.Found("r", 4, 10)], "abcdef")).misses
    assert not score.score([sample], lambda _: ([score.Found("r", 4, 7), score.Found("s", 7, 10)], "")).misses
