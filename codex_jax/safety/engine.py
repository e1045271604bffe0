"""Examines texts by a policy: what is found becomes a placeholder that is never learnt, or blocks, or is only told.

What was found is never returned, logged or put into a message; only the rule and the place are.
"""

import bisect
import functools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from codex_jax.safety import policy as policies
from codex_jax.safety.candidates import Candidates
from codex_jax.safety.normal import normal
from codex_jax.safety.policy import Policy
from codex_jax.safety.rule import ACTIONS, SEVERITIES, STAGES
from codex_jax.safety.search import Search
from codex_jax.safety.spans import Cover, Span, in_characters


# What a placeholder uncovers, since what stood before it is gone, is looked for again so often. Real text needs one.
_ROUNDS = 8


class Match(NamedTuple):
    """A span of the original text, in characters, and why it was found."""

    rule: str
    action: str
    severity: str
    start: int
    end: int


class Decision(NamedTuple):
    """What becomes of a text. Only the pieces hold text, and nothing of what was to be redacted."""

    pieces: list[tuple[str, bool]]
    """the text with placeholders, and whether each piece may be learnt"""
    matches: list[Match]
    """in order; of redacted ones that overlap one, named by the first, or the longest of those that begin together"""
    blocked: tuple[str, ...]
    """ids of the block rules that found something"""

    @property
    def text(self) -> str:
        """The text with `[REDACTED:rule]` in place of what was found."""
        return "".join(piece for piece, _ in self.pieces)


class Engine:
    """A policy, compiled. Threads may share one; a process that is sent one compiles it anew."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._rules = [rule for rule in policy.rules if rule.enabled]
        self._actions = {stage: [rule.action(stage) for rule in self._rules] for stage in STAGES}
        self._searches = [Search(rule) for rule in self._rules]
        self._candidates = Candidates(self._rules)
        self._placeholder = re.compile(rf"\[REDACTED:(?:{'|'.join(re.escape(rule.id) for rule in self._rules)})\]")

    def __reduce__(self) -> tuple[object, ...]:
        return of, (self.policy,)

    def policy_digest(self) -> str:
        """Return the SHA-256 of the rules: equal digests decide alike."""
        return self.policy.digest()

    def examine(self, text: str, stage: str) -> Decision:
        """Return what becomes of a text at a stage; linear in its length, and nothing more when done twice.

        The text is searched as a whole, so that nothing depends on how a caller could have cut it.
        """
        found = self._found(text, stage)
        if not found:
            return Decision([(text, True)] if text else [], [], ())
        flags = [self._match(span) for span in found if span.action == "flag"]
        strong = [span for span in found if span.action != "flag"]
        blocked: set[str] = set()
        hidden: list[Match] = []
        for _ in range(_ROUNDS):
            blocked |= {self._rules[span.rule].id for span in strong if span.action == "block"}
            hidden = sorted([*hidden, *self._merged(strong)], key=lambda match: match.start)
            if not strong:
                break
            redacted = _Redacted(text, hidden)
            strong = [redacted.original(span) for span in self._found(redacted.text, stage) if span.action != "flag"]
        matches = sorted([*hidden, *flags], key=lambda match: (match.start, match.end, match.rule))
        return Decision(_pieces(text, hidden), matches, tuple(sorted(blocked)))

    def _found(self, text: str, stage: str) -> list[Span]:
        """Return what the rules of a stage find, without what allow rules spare and outside of placeholders."""
        content = text.encode("utf-8", "surrogatepass")
        found = self._search(text, content, stage)
        if (plain := normal(text, content)) is not None:
            # What an unseen character set apart counts above, and what is one word without it counts here.
            for span in self._search(plain[0], plain[0].encode("utf-8", "surrogatepass"), stage):
                start, end = plain[1].original(span.start, span.end)
                found.append(span._replace(start=start, end=end))
        if not found:
            return []
        placeholders = Cover(match.span() for match in self._placeholder.finditer(text))
        return [
            span._replace(start=start, end=end)
            for span in self._unspared(found)
            for start, end in placeholders.outside(span.start, span.end)
        ]

    def _search(self, text: str, content: bytes, stage: str) -> list[Span]:
        actions = self._actions[stage]
        spans = [
            Span(start, end, rule, action)
            for rule in self._candidates.of(content)
            if (action := actions[rule])
            for start, end in self._searches[rule].spans(content)
        ]
        return spans if len(content) == len(text) else in_characters(content, spans)

    def _unspared(self, spans: Iterable[Span]) -> list[Span]:
        """Return what no allow rule spares: it takes away the findings that it overlaps, of the rules it may spare."""
        allows: dict[int, list[tuple[int, int]]] = {}
        kept = []
        for span in spans:
            if span.action == "allow":
                allows.setdefault(span.rule, []).append(span[:2])
            else:
                kept.append(span)
        for rule, places in allows.items():
            only, cover = self._rules[rule].only, Cover(places)
            may = {index for index, one in enumerate(self._rules) if not only or one.id in only}
            kept = [span for span in kept if span.rule not in may or not cover.touches(span.start, span.end)]
        return kept

    def _merged(self, spans: Iterable[Span]) -> list[Match]:
        """Return one match for those that overlap, in order."""
        hidden: list[Match] = []
        for span in sorted(spans, key=lambda span: (span.start, -span.end, span.rule)):
            match = self._match(span)
            if hidden and match.start < hidden[-1].end:
                hidden[-1] = _joined(hidden[-1], match)
            else:
                hidden.append(match)
        return hidden

    def _match(self, span: Span) -> Match:
        rule = self._rules[span.rule]
        return Match(rule.id, span.action, rule.severity, span.start, span.end)


class _Redacted:
    """A text with placeholders that still knows where its other characters stood."""

    def __init__(self, text: str, hidden: Sequence[Match]) -> None:
        pieces = _pieces(text, hidden)
        self.text = "".join(piece for piece, _ in pieces)
        self._begins, self._shifts = [0], [0]
        at = original = 0
        spans = iter(hidden)
        for piece, kept in pieces:
            at += len(piece)
            original = original + len(piece) if kept else next(spans).end
            self._begins.append(at)
            self._shifts.append(original - at)

    def original(self, span: Span) -> Span:
        """Return a span between placeholders as one of the text itself."""
        shift = self._shifts[bisect.bisect_right(self._begins, span.start) - 1]
        return span._replace(start=span.start + shift, end=span.end + shift)


@functools.lru_cache(maxsize=8)
def of(policy: Policy) -> Engine:
    """Return the engine of a policy, compiled once in a process."""
    return Engine(policy)


def default() -> Engine:
    """Return the engine of the policy that comes with the package."""
    return of(policies.default())


def _joined(first: Match, second: Match) -> Match:
    """Return one match for two that overlap: the name of the first, the stronger action, the higher severity."""
    return first._replace(
        action=min(first.action, second.action, key=ACTIONS.index),
        severity=min(first.severity, second.severity, key=SEVERITIES.index),
        end=max(first.end, second.end),
    )


def _pieces(text: str, hidden: Iterable[Match]) -> list[tuple[str, bool]]:
    pieces, done = [], 0
    for match in hidden:
        if done < match.start:
            pieces.append((text[done : match.start], True))
        pieces.append((f"[REDACTED:{match.rule}]", False))
        done = match.end
    if done < len(text):
        pieces.append((text[done:], True))
    return pieces
