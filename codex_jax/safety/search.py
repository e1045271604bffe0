"""One rule, compiled: where in a text it finds something."""

from collections.abc import Iterator, Sequence
from typing import Any

import re2

from codex_jax.safety import validators
from codex_jax.safety.rule import Rule


# Of each pattern and set. RE2 falls back to a slower search, still linear, when a pattern's automaton outgrows it.
_MEMORY_BYTES = 16 << 20

Spans = Iterator[tuple[int, int]]


def options() -> Any:
    """Return RE2's options: bounded memory, and no messages on standard error."""
    made = re2.Options()
    made.max_mem = _MEMORY_BYTES
    made.log_errors = False
    return made


def compiled(pattern: str) -> Any:
    """Return a compiled pattern; ValueError says why it is none."""
    try:
        return re2.compile(pattern, options())
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from error


def keyword_pattern(keyword: str) -> str:
    """Return the pattern of a keyword: in any case, or with a capital in it only as it is written."""
    return ("(?i)" if keyword == keyword.lower() else "") + str(re2.escape(keyword))


def _one_of(patterns: Sequence[str]) -> Any:
    """Return what tells in one pass whether any of several patterns matches; None when it does not pay or fit."""
    if len(patterns) < 2:
        return None
    try:
        return compiled("|".join(f"(?:{pattern})" for pattern in patterns))
    except ValueError:
        return None


class Search:
    """Finds what one rule names."""

    def __init__(self, rule: Rule) -> None:
        self._patterns = [compiled(pattern) for pattern in rule.patterns]
        self._any = _one_of(rule.patterns)
        self._harmless = [compiled(pattern) for pattern in rule.harmless]
        self._group = rule.group
        self._entropy = rule.entropy
        self._validator = validators.VALIDATORS[rule.validator] if rule.validator else None

    def spans(self, content: bytes) -> Spans:
        """Yield (start, end), in bytes of the UTF-8 text, of everything found; spans of two patterns may overlap."""
        if self._any and not self._any.search(content):
            return
        for pattern in self._patterns:
            start = 0
            while match := pattern.search(content, start):
                span = match.span((match.lastindex or 0) if self._group is None else self._group)
                # On from the end of what was found, not of its context: that may be the context of the next as well.
                start = max(span[1], match.start() + 1)
                if span[0] < span[1] and self._holds(content[slice(*span)]):
                    yield span
                if start > len(content):
                    break

    def _holds(self, found: bytes) -> bool:
        if any(pattern.fullmatch(found) for pattern in self._harmless):
            return False
        text = found.decode(errors="replace")
        if self._entropy and validators.entropy(text) < self._entropy:
            return False
        return self._validator is None or self._validator(text)
