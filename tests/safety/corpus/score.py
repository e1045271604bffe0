"""Scores a filter on the corpus: recall by kind of value, precision by rule, each with its Wilson interval."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from corpus.samples import GROUPS, Sample, Span


class Found(NamedTuple):
    """What a filter takes out of a text, in characters."""

    rule: str
    start: int
    end: int


# Returns what was found in a text and the text without it.
Filter = Callable[[str], tuple[Sequence[Found], str]]

# A finding may take this much more than the value (the header of a key, the user before a password) and be right.
EXCESS = 200


class Rate(NamedTuple):
    """A share with its 95 % interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    def interval(self) -> tuple[float, float]:
        """Return the bounds by Wilson's formula."""
        if not self.total:
            return 0.0, 1.0
        z, n, p = 1.959964, self.total, self.value
        middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))


class Error(NamedTuple):
    """A value that stayed, or something harmless that was taken."""

    name: str
    sample: Sample
    start: int
    end: int


class Score(NamedTuple):
    """What a filter did on a list of samples."""

    recall: dict[tuple[str, str], Rate]
    rules: dict[str, Rate]
    group_of: dict[str, str]
    misses: list[Error]
    alarms: list[Error]

    def group_recall(self, group: str) -> Rate:
        """Return the recall of one group of values."""
        return _sum(rate for (own, _), rate in self.recall.items() if own == group)

    def group_precision(self, group: str) -> Rate:
        """Return the precision of the rules that find this group more than any other."""
        return _sum(rate for rule, rate in self.rules.items() if self.group_of[rule] == group)


def score(samples: Sequence[Sample], find: Filter) -> Score:
    """Run a filter over the samples."""
    recall: dict[tuple[str, str], list[bool]] = {}
    rules: dict[str, list[bool]] = {}
    groups: dict[str, Counter[str]] = {}
    misses, alarms = [], []
    for sample in samples:
        findings, left = find(sample.text)
        for span in sample.spans:
            hit = _gone(sample, span, findings, left)
            recall.setdefault(span[:2], []).append(hit)
            if not hit:
                misses.append(Error(span.kind, sample, span.start, span.end))
        for found in findings:
            touched = [span for span in sample.spans if span.start < found.end and found.start < span.end]
            right = bool(touched) and found.end - found.start <= EXCESS + max(s.end for s in touched) - touched[0].start
            rules.setdefault(found.rule, []).append(right)
            groups.setdefault(found.rule, Counter()).update(span.group for span in touched)
            if not right:
                alarms.append(Error(found.rule, sample, found.start, found.end))
    return Score(
        {kind: Rate(sum(hits), len(hits)) for kind, hits in sorted(recall.items())},
        {rule: Rate(sum(hits), len(hits)) for rule, hits in sorted(rules.items())},
        # A rule that found nothing right counts among the generic ones, which are the vaguest.
        {rule: max(reversed(GROUPS), key=lambda group, seen=seen: seen[group]) for rule, seen in groups.items()},
        misses,
        alarms,
    )


def _gone(sample: Sample, span: Span, findings: Sequence[Found], left: str) -> bool:
    """Say whether findings cover the whole value and nothing of it is left in the text."""
    reached = span.start
    for found in sorted(findings, key=lambda found: found.start):
        if found.start <= reached:
            reached = max(reached, found.end)
    return reached >= span.end and sample.text[span.start : span.end] not in left


def _sum(rates: Iterable[Rate]) -> Rate:
    parts = list(rates)
    return Rate(sum(rate.hits for rate in parts), sum(rate.total for rate in parts))
