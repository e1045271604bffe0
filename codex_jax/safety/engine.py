"""Redaction: every span a rule finds becomes a placeholder that is never learnt, and what is found is counted by rule.

What was found is never returned, logged or put into a message; only the rule and the place are.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import re2

from codex_jax import digest
from codex_jax.safety.rules import RULES, Rule


# RE2 gives up on a set whose automaton outgrows this; the rules need a small part of it.
_MEMORY_BYTES = 64 << 20
_MARK = "[REDACTED:{}]"


class Finding(NamedTuple):
    """A span of the text, in characters."""

    rule: str
    start: int
    end: int


class Redacted(NamedTuple):
    """The text in pieces, each with whether it may be learnt, and what was found."""

    pieces: list[tuple[str, bool]]
    findings: list[Finding]

    @property
    def text(self) -> str:
        """The redacted text."""
        return "".join(piece for piece, _ in self.pieces)


class Engine:
    """A set of rules, compiled. One automaton tells in a single pass which rules need a closer look."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        self._rules = tuple(rules)
        self._patterns = [re2.compile(rule.pattern, options) for rule in rules]
        self._harmless = [re2.compile(rule.harmless, options) for rule in rules]
        self._set = re2.Set.SearchSet(options)
        for rule in rules:
            self._set.Add(rule.pattern)
        self._set.Compile()
        names = "|".join(re.escape(rule.name) for rule in rules)
        self._mark = re.compile(re.escape(_MARK).replace(r"\{\}", f"({names})").encode())

    def redact(self, text: str) -> Redacted:
        """Return the text with every finding replaced by `[REDACTED:rule]`; linear in its length.

        A text that was redacted before has the same pieces again: a mark in it is not learnt, and is no finding.
        """
        content = text.encode()
        marks = {match.span(): match[1].decode() for match in self._mark.finditer(content)}
        spans = [*self._spans(content), *((*span, rule) for span, rule in marks.items())]
        if not spans:
            return Redacted([(text, True)] if text else [], [])
        pieces, findings = [], []
        done = characters = 0
        for start, end, rule in _merged(spans):
            before = content[done:start].decode()
            if before:
                pieces.append((before, True))
            pieces.append((_MARK.format(rule), False))
            begin = characters + len(before)
            characters = begin + len(content[start:end].decode())
            if (start, end) not in marks:
                findings.append(Finding(rule, begin, characters))
            done = end
        if done < len(content):
            pieces.append((content[done:].decode(), True))
        return Redacted(pieces, findings)

    def policy_digest(self) -> str:
        """Return the SHA-256 of the rules: equal digests redact alike."""
        return digest.of_json([_MARK, *([rule.name, rule.pattern, rule.harmless] for rule in self._rules)])

    def _spans(self, content: bytes) -> list[tuple[int, int, str]]:
        spans = []
        for index in self._set.Match(content) or ():
            for match in self._patterns[index].finditer(content):
                start, end = match.span(match.lastindex or 0)
                if not self._harmless[index].fullmatch(content[start:end]):
                    spans.append((start, end, self._rules[index].name))
        return spans


@functools.cache
def default() -> Engine:
    """Return the engine of the built-in rules, compiled once in a process."""
    return Engine(RULES)


def _merged(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Join spans that overlap; the rule of the first, or of the longest among those that begin together, names them."""
    merged: list[tuple[int, int, str]] = []
    for start, end, rule in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if merged and start < merged[-1][1]:
            first, last, name = merged[-1]
            merged[-1] = (first, max(last, end), name)
        else:
            merged.append((start, end, rule))
    return merged
