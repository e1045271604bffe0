"""Turns the data of a policy file into rules, or into a list of everything that is wrong with it."""

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import re2

from codex_jax.safety import search, validators
from codex_jax.safety.reading import Tree, Where
from codex_jax.safety.rule import ACTIONS, SEVERITIES, STAGES, Rule


VERSION = 1
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FRAGMENT = re.compile(r"\{\{([a-z_]+)\}\}")
# Fragments may stand in fragments: without a bound a few lines could make a pattern of gigabytes.
_MAX_PATTERN = 20_000
_TOP_KEYS = (
    *("version", "description", "extends", "disable", "enable"),
    *("gitleaks", "forbid_bypass", "fragments", "rules"),
)
_RULE_KEYS = (
    *("id", "description", "severity", "action", "stages", "literals", "patterns", "keywords"),
    *("group", "entropy", "validator", "harmless", "only", "enabled", "examples"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft:
    """What a policy file says, before what it extends is looked at."""

    extends: str = ""
    rules: tuple[Rule, ...] = ()
    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    gitleaks: str = ""
    without: tuple[str, ...] = ()
    """what of the gitleaks file is left out, by name"""
    forbid_bypass: bool = False


class Parser:
    """Takes a tree apart and notes every problem on the way, so that all of them are told at once."""

    def __init__(self, tree: Tree) -> None:
        self.problems: list[str] = []
        self._tree = tree
        self._fragments: dict[str, str] = {}

    def parse(self) -> Draft:
        """Return what the file says; what is wrong is left out and noted in `problems`."""
        top = self._tree.value
        if not isinstance(top, dict):
            self._note((), "a policy is a mapping with the keys version and rules")
            return Draft()
        self._known(top, _TOP_KEYS, ())
        if top.get("version") != VERSION or top.get("version") is True:
            self._note(("version",), f"version has to be {VERSION}, the only one there is, not {top.get('version')!r}")
        self._word(top, "description", ())
        self._read_fragments(top)
        extends = self._word(top, "extends", ())
        if extends not in ("", "default"):
            self._note(("extends",), f"extends can be `default` or be left out, not {extends!r}")
        source, without = self._gitleaks(top)
        return Draft(
            extends=extends,
            rules=self._rules(top),
            disable=self._words(top, "disable", ()),
            enable=self._words(top, "enable", ()),
            gitleaks=source,
            without=without,
            forbid_bypass=self._switch(top, "forbid_bypass", (), False),
        )

    def _rules(self, top: Mapping[str, Any]) -> tuple[Rule, ...]:
        rows = top.get("rules", [])
        if not isinstance(rows, list):
            self._note(("rules",), "rules has to be a list")
            return ()
        made: dict[str, Rule] = {}
        for index, row in enumerate(rows):
            rule = self._rule(row, ("rules", index))
            if rule and rule.id in made:
                self._note(("rules", index), f"a second rule {rule.id}")
            elif rule:
                made[rule.id] = rule
        return tuple(made.values())

    def _rule(self, row: Any, at: Where) -> Rule | None:
        before = len(self.problems)
        if not isinstance(row, dict):
            self._note(at, "a rule is a mapping with the keys id and patterns or literals")
            return None
        self._known(row, _RULE_KEYS, at)
        name = self._word(row, "id", at)
        if not _ID.fullmatch(name):
            self._note(at, f"an id is a word of a-z, 0-9, ., _ and - of at most 64 characters, not {name!r}")
        literals = self._words(row, "literals", at)
        patterns = self._patterns(row, "patterns", at)
        if not literals and not patterns:
            self._note(at, "a rule needs patterns or literals")
        keywords = self._words(row, "keywords", at)
        examples = self._examples(row, at)
        actions = self._actions(row, at)
        rule = Rule(
            id=name,
            description=self._word(row, "description", at),
            severity=self._one_of(row, "severity", SEVERITIES, at, "high"),
            actions=actions,
            patterns=(*map(whole_word, literals), *patterns),
            keywords=keywords if patterns else (*keywords, *(literal.lower() for literal in literals)),
            group=self._group(row, patterns, at),
            entropy=self._entropy(row, at),
            validator=self._one_of(row, "validator", tuple(validators.VALIDATORS), at, ""),
            harmless=self._patterns(row, "harmless", at),
            only=self._words(row, "only", at),
            enabled=self._switch(row, "enabled", at, True),
            finds=examples["finds"],
            spares=examples["spares"],
        )
        if rule.only and {action for _, action in actions} != {"allow"}:
            self._note((*at, "only"), "only names what an allow rule may spare; this is none")
        return rule if len(self.problems) == before else None

    def _actions(self, row: Mapping[str, Any], at: Where) -> tuple[tuple[str, str], ...]:
        said = row.get("action", "redact")
        if isinstance(said, dict):
            if "stages" in row:
                self._note((*at, "stages"), "the stages stand with their actions already; leave `stages` out")
            pairs = [(stage, action) for action in said for stage in self._words(said, action, (*at, "action"))]
        else:
            pairs = [(stage, said) for stage in self._words(row, "stages", at)] or [(stage, said) for stage in STAGES]
        stages = [stage for stage, _ in pairs]
        for stage, action in pairs:
            self._check_choice(stage, STAGES, "stage", at)
            self._check_choice(action, ACTIONS, "action", at)
            if stages.count(stage) > 1:
                self._note((*at, "action"), f"the stage {stage} stands twice")
        return tuple(sorted(set(pairs)))

    def _patterns(self, row: Mapping[str, Any], key: str, at: Where) -> tuple[str, ...]:
        """Return patterns with their fragments put in, each of them good."""
        made = []
        for pattern in self._words(row, key, at):
            try:
                whole = self._expanded(pattern)
                check_pattern(whole)
            except ValueError as error:
                self._note((*at, key), f"the pattern {_short(pattern)} is refused: {error}")
            else:
                made.append(whole)
        return tuple(made)

    def _read_fragments(self, top: Mapping[str, Any]) -> None:
        fragments = top.get("fragments", {})
        if not isinstance(fragments, dict):
            self._note(("fragments",), "fragments has to be a mapping of names to parts of patterns")
            return
        for name in fragments:
            try:
                self._fragments[name] = self._expanded(self._word(fragments, name, ("fragments",)))
            except ValueError as error:
                self._note(("fragments", name), f"the fragment {name} is refused: {error}")

    def _expanded(self, pattern: str) -> str:
        def put_in(match: re.Match[str]) -> str:
            if match[1] not in self._fragments:
                raise ValueError(f"there is no fragment {match[1]} above it")
            return f"(?:{self._fragments[match[1]]})"

        whole = _FRAGMENT.sub(put_in, pattern)
        if len(whole) > _MAX_PATTERN:
            raise ValueError(f"it has {len(whole):,} characters, the most is {_MAX_PATTERN:,}")
        return whole

    def _group(self, row: Mapping[str, Any], patterns: Iterable[str], at: Where) -> int | None:
        if "group" not in row:
            return None
        group = row["group"]
        least = min((re2.compile(pattern).groups for pattern in patterns), default=0)
        if type(group) is not int or not 0 <= group <= least:
            self._note((*at, "group"), f"group has to be a number from 0 to {least}, the groups there are")
            return None
        return group

    def _entropy(self, row: Mapping[str, Any], at: Where) -> float:
        value = row.get("entropy", 0)
        if type(value) not in (int, float) or not 0 <= value <= 8:
            self._note((*at, "entropy"), f"entropy has to be a number of bits from 0 to 8, not {value!r}")
            return 0.0
        return float(value)

    def _examples(self, row: Mapping[str, Any], at: Where) -> dict[str, tuple[str, ...]]:
        """Return the examples; the strings of a list are joined, so that the file holds nothing like a secret."""
        said = row.get("examples", {})
        if not isinstance(said, dict):
            self._note((*at, "examples"), "examples has the keys finds and spares")
            said = {}
        self._known(said, ("finds", "spares"), (*at, "examples"))
        made: dict[str, tuple[str, ...]] = {}
        for key in ("finds", "spares"):
            rows = said.get(key, [])
            parts: list[Any] = [
                [one] if isinstance(one, str) else one for one in (rows if isinstance(rows, list) else [0])
            ]
            if not all(isinstance(one, list) and all(isinstance(part, str) for part in one) for one in parts):
                self._note((*at, "examples"), f"{key} has to be a list of strings, or of lists of strings to be joined")
                parts = []
            made[key] = tuple("".join(one) for one in parts)
        return made

    def _gitleaks(self, top: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        said = top.get("gitleaks", {})
        if isinstance(said, str):
            return said, ()
        if not isinstance(said, dict):
            self._note(("gitleaks",), "gitleaks has to be the name of a file, or have the keys file and without")
            return "", ()
        self._known(said, ("file", "without"), ("gitleaks",))
        return self._word(said, "file", ("gitleaks",)), self._words(said, "without", ("gitleaks",))

    def _known(self, row: Mapping[str, Any], keys: Collection[str], at: Where) -> None:
        for key in row:
            self._check_choice(key, keys, "key", (*at, key))

    def _one_of(self, row: Mapping[str, Any], key: str, choices: Collection[str], at: Where, default: str) -> str:
        word = self._word(row, key, at) or default
        if word:
            self._check_choice(word, choices, key, (*at, key))
        return word

    def _check_choice(self, word: Any, choices: Collection[str], what: str, at: Where) -> None:
        if word in choices:
            return
        near = difflib.get_close_matches(str(word), choices, 1)
        meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(choices)}"
        self._note(at, f"unknown {what} {_short(str(word))}{meant}")

    def _word(self, row: Mapping[str, Any], key: str, at: Where) -> str:
        value = row.get(key, "")
        if isinstance(value, str):
            return value
        self._note((*at, key), f"{key} has to be a string, not {_short(repr(value))}; put it in quotes")
        return ""

    def _words(self, row: Mapping[str, Any], key: str, at: Where) -> tuple[str, ...]:
        value = row.get(key, [])
        words = [value] if isinstance(value, str) else value
        if isinstance(words, list) and all(isinstance(word, str) and word for word in words):
            return tuple(words)
        self._note((*at, key), f"{key} has to be a string or a list of strings, none of them empty")
        return ()

    def _switch(self, row: Mapping[str, Any], key: str, at: Where, default: bool) -> bool:
        value = row.get(key, default)
        if isinstance(value, bool):
            return value
        self._note((*at, key), f"{key} has to be true or false, not {_short(repr(value))}")
        return default

    def _note(self, at: Where, reason: str) -> None:
        line = next((self._tree.lines[at[:size]] for size in range(len(at), 0, -1) if at[:size] in self._tree.lines), 0)
        place = [f"line {line}"] if line else []
        if len(at) > 1 and at[0] == "rules":
            row = self._tree.value["rules"][at[1]]
            name = row.get("id") if isinstance(row, dict) else None
            place.append(f"rule {name}" if isinstance(name, str) and name else f"rule number {int(at[1]) + 1}")
        self.problems.append(": ".join([", ".join(place), reason]) if place else reason)


def whole_word(literal: str) -> str:
    """Return the pattern of a literal: upper or lower case, and not as a part of a longer word."""
    before = r"\b" if re.match(r"[A-Za-z0-9_]", literal) else ""
    after = r"\b" if re.search(r"[A-Za-z0-9_]\Z", literal) else ""
    return f"(?i){before}{re2.escape(literal)}{after}"


def check_pattern(pattern: str) -> None:
    """Raise ValueError unless it is a pattern of RE2 that does not match nothing."""
    if search.compiled(pattern).search(b"") is not None:
        raise ValueError("it matches the empty text, and so every text")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
