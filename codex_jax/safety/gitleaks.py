"""Reads the rules of a gitleaks.toml; what has no equal here is refused by name, or left out where a policy says so."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import re2

from codex_jax.errors import AssetError
from codex_jax.safety import policy_file, reading
from codex_jax.safety.rule import STAGES, Rule


_RULE_KEYS = ("id", "description", "regex", "secretGroup", "entropy", "keywords", "tags", "allowlists", "allowlist")
_LIST_KEYS = ("description", "condition", "regexes", "regexTarget", "stopwords", "paths", "commits")
_TOP_KEYS = ("title", "description", "minVersion", "rules", "allowlist", "allowlists")
# They spare by the name of a file or a commit, which a text does not have.
_NO_EQUAL = ("paths", "commits")


def load(path: Path, without: Sequence[str] = ()) -> list[Rule]:
    """Return the rules, all of them redacting; AssetError lists what has no equal and is not named in `without`.

    `without` takes ids of rules, and `paths` and `commits` for allowlists of files and commits.
    """
    try:
        top = tomllib.loads(reading.content(path).decode())
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested without end
        raise AssetError(f"{path} is no gitleaks.toml: {error}") from error
    reader = _Reader(top, without)
    rules = list(reader.rules())
    if reader.problems:
        way_out = "name it under gitleaks: without: in a policy to do without it"
        count = "1 reason" if len(reader.problems) == 1 else f"{len(reader.problems)} reasons"
        raise AssetError("\n  ".join([f"{path} is refused for {count} ({way_out}):", *reader.problems]))
    return rules


class _Reader:
    def __init__(self, top: Mapping[str, Any], without: Sequence[str]) -> None:
        self.problems: list[str] = []
        self._top = top
        self._without = without

    def rules(self) -> Iterator[Rule]:
        self._unknown("the file", self._top, _TOP_KEYS)
        shared = self._harmless("the file", self._top)
        rows = self._top.get("rules", [])
        for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
            name = _id(row)
            if name in self._without:
                continue
            try:
                yield self._rule(name, row, shared)
            except (ValueError, TypeError, KeyError) as error:
                self.problems.append(f"rule {name or number}: {error}")

    def _rule(self, name: str, row: Mapping[str, Any], shared: Sequence[str]) -> Rule:
        self._unknown(f"rule {name}", row, _RULE_KEYS)
        if "regex" not in row:
            raise ValueError("it has no regex")
        policy_file.check_pattern(row["regex"])
        return Rule(
            id=name,
            description=str(row.get("description", "")),
            actions=tuple(sorted((stage, "redact") for stage in STAGES)),
            patterns=(row["regex"],),
            keywords=tuple(str(word).lower() for word in row.get("keywords", [])),
            group=row.get("secretGroup") or None,
            entropy=float(row.get("entropy", 0)),
            harmless=(*shared, *self._harmless(f"rule {name}", row)),
        )

    def _harmless(self, place: str, row: Mapping[str, Any]) -> list[str]:
        """Return the patterns of what allowlists spare."""
        lists = [*row.get("allowlists", []), *([row["allowlist"]] if "allowlist" in row else [])]
        return [pattern for one in lists for pattern in self._spared(place, one)]

    def _spared(self, place: str, one: Mapping[str, Any]) -> Iterator[str]:
        self._unknown(f"{place}, allowlist", one, _LIST_KEYS)
        if one.get("regexTarget", "secret") not in ("", "secret"):
            self.problems.append(f"{place}, allowlist: regexTarget {one['regexTarget']!r}; only a secret is looked at")
        if str(one.get("condition", "OR")).upper() in ("AND", "&&"):
            self.problems.append(f"{place}, allowlist: condition AND")
        for key in _NO_EQUAL:
            if one.get(key) and key not in self._without:
                self.problems.append(f"{place}, allowlist: {key}; a text has none")
        if words := one.get("stopwords", []):
            yield f"(?is).*(?:{'|'.join(map(re2.escape, words))}).*"
        for pattern in one.get("regexes", []):
            try:
                policy_file.check_pattern(f"x(?:{pattern})")
            except ValueError as error:
                self.problems.append(f"{place}, allowlist: the pattern {pattern[:60]} is refused: {error}")
            # Theirs is searched for, and ours has to match all of it.
            yield f"(?s:.*)(?:{pattern})(?s:.*)"

    def _unknown(self, place: str, row: Mapping[str, Any], known: Sequence[str]) -> None:
        self.problems += [f"{place}: {key} has no equal here" for key in row if key not in known]


def _id(row: Any) -> str:
    """Return an id as ours are written."""
    name = row.get("id", "") if isinstance(row, dict) else ""
    return re.sub(r"[^a-z0-9._-]", "-", str(name).lower())[:64]
