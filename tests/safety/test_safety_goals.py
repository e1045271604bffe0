"""How much the built-in policy finds, and how much it takes that is harmless, on the labelled corpus."""

import random
from collections.abc import Sequence

import pytest
from corpus import draw, lookalikes, personal, samples, score, tokens

from codex_jax.safety import engine


pytestmark = pytest.mark.security

# Recall and precision, at the least: what is reached, a little less than is measured. The goals are 0.97 and 0.97, and
# for generic secrets 0.85 and 0.9.
HELD = {"token": (0.985, 0.985), "personal": (0.98, 0.985), "generic": (0.93, 0.98)}


def find(text: str) -> tuple[Sequence[score.Found], str]:
    decision = engine.default().examine(text, "train")
    found = [match for match in decision.matches if match.action in ("block", "redact")]
    return [score.Found(match.rule, match.start, match.end) for match in found], decision.text


@pytest.mark.parametrize(
    ("seed", "size"), [(11, 400), pytest.param(12, 5000, marks=pytest.mark.slow)], ids=["small", "whole"]
)
def test_policy_reaches_what_is_held(seed: int, size: int) -> None:
    result = score.score(samples.make(seed, size), find)
    for group, (recall, precision) in HELD.items():
        assert result.group_recall(group).value >= recall, (group, result.group_recall(group))
        assert result.group_precision(group).value >= precision, (group, result.group_precision(group))


@pytest.mark.parametrize("kind", [*tokens.names(), *personal.kinds()])
def test_kind_is_found_without_a_name(kind: str) -> None:
    rng = random.Random(f"13/{kind}")
    missed = []
    for _ in range(20):
        value, place = (tokens if kind in tokens.names() else personal).make(rng, kind)
        text, spans = draw.fill(rng, f"see {place} for more", {"v": value})
        sample = samples.Sample(text, [samples.Span("", kind, *span) for span in spans])
        missed += [text] if score.score([sample], find).misses else []
    assert len(missed) <= 1, missed


@pytest.mark.parametrize("kind", lookalikes.kinds())
def test_kind_is_let_be(kind: str) -> None:
    rng = random.Random(f"14/{kind}")
    taken = [text for text in (lookalikes.make(rng, kind) for _ in range(200)) if find(text)[0]]
    assert len(taken) <= 4, taken
