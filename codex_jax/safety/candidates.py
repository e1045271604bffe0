"""Tells in one pass over a text which rules need a closer look: most texts need none."""

from collections.abc import Sequence

import re2

from codex_jax.safety.rule import Rule
from codex_jax.safety.search import keyword_pattern, options


# A set of more complex patterns outgrows its automaton.
_IN_A_SET = 32

_Owned = tuple[str, set[int]]
"""a pattern and the indices of its rules"""


class Candidates:
    """The keywords of all rules in one automaton, and the patterns of those that have none in a few more."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        words: dict[str, set[int]] = {}
        for index, rule in enumerate(rules):
            for keyword in rule.keywords:
                words.setdefault(keyword, set()).add(index)
        free = [(pattern, {i}) for i, rule in enumerate(rules) if not rule.keywords for pattern in rule.patterns]
        self._sets = _sets([(keyword_pattern(word), owners) for word, owners in words.items()])
        for first in range(0, len(free), _IN_A_SET):
            self._sets += _sets(free[first : first + _IN_A_SET])

    def of(self, content: bytes) -> list[int]:
        """Return the indices of the rules that can find something in a text, in order."""
        found: set[int] = set()
        for one in self._sets:
            found.update(one.owners(content))
        return sorted(found)


class _Set:
    """Patterns, each with the rules it stands for; re2.error when they are too much for one automaton."""

    def __init__(self, patterns: Sequence[_Owned]) -> None:
        self._owners = [owners for _, owners in patterns]
        self._all = set().union(*self._owners)
        self._set = re2.Set.SearchSet(options())
        for pattern, _ in patterns:
            self._set.Add(pattern)
        # Matches every text. Without it a set that ran out of memory would look like one that found nothing.
        self._set.Add("")
        self._set.Compile()

    def owners(self, content: bytes) -> set[int]:
        hits = self._set.Match(content)
        if not hits:
            return self._all
        return set().union(*(self._owners[hit] for hit in hits if hit < len(self._owners)))


class _Always:
    """Patterns that fit into no automaton: their rules look at every text."""

    def __init__(self, patterns: Sequence[_Owned]) -> None:
        self._all = set().union(*(owners for _, owners in patterns))

    def owners(self, content: bytes) -> set[int]:
        return self._all


def _sets(patterns: Sequence[_Owned]) -> list[_Set | _Always]:
    """Return the fewest automata that hold the patterns, halving what is too much for one."""
    if not patterns:
        return []
    try:
        return [_Set(patterns)]
    except re2.error:
        half = len(patterns) // 2
        return _sets(patterns[:half]) + _sets(patterns[half:]) if half else [_Always(patterns)]
