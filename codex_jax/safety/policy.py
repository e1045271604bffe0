"""A policy: the rules that are in force, read from a file that is refused whole when anything is wrong with it."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from codex_jax.errors import AssetError
from codex_jax.safety import gitleaks, policy_file, reading, rule
from codex_jax.safety.rule import Rule
from codex_jax.safety.search import Search, compiled, keyword_pattern


# Part of every digest: raised when the same rules begin to find something else.
_VERSION = 1
_DEFAULT = Path(__file__).with_name("default.yaml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules, in order."""

    rules: tuple[Rule, ...]
    forbid_bypass: bool = False
    """no configuration and no variable switches it off"""
    source: str = dataclasses.field(default="", compare=False)
    """where it was read"""

    def digest(self) -> str:
        """Return the SHA-256 of what decides what becomes of a text: equal digests decide alike."""
        return rule.policy_digest(self.rules, _VERSION)


@functools.cache
def default() -> Policy:
    """Return the policy that comes with the package; the tests try its examples, not every process."""
    draft = _parsed(_DEFAULT)
    return Policy(rules=draft.rules, source="default")


def load(path: Path) -> Policy:
    """Return the policy of a YAML or JSON file, or of a gitleaks.toml; AssetError lists everything wrong with it."""
    if path.suffix == ".toml":
        rules: tuple[Rule, ...] = tuple(gitleaks.load(path))
        return Policy(rules=rules, source=str(path))
    draft = _parsed(path)
    foreign = gitleaks.load(path.parent / draft.gitleaks, draft.without) if draft.gitleaks else []
    own = (*foreign, *draft.rules)
    inherited = default().rules if draft.extends else ()
    problems = [*_twice(own), *unkept(own)]
    rules = tuple({one.id: one for one in (*inherited, *own)}.values())
    problems += _strangers(draft, rules)
    if not rules:
        problems.append("there is no rule in it; `extends: default` takes those of the package")
    if problems:
        raise refusal(path, problems)
    switched = tuple(_switched(rules, draft.disable, draft.enable))
    return Policy(rules=switched, forbid_bypass=draft.forbid_bypass, source=str(path))


def unkept(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield what is wrong with rules that do not do what their examples say."""
    for one in rules:
        search = Search(one)
        for kind, texts, wanted in (("finds", one.finds, True), ("spares", one.spares, False)):
            for number, text in enumerate(texts, 1):
                # Not the text: an example of a user may be a secret.
                if finds(search, one, text) is not wanted:
                    yield f"rule {one.id}: it {'misses' if wanted else 'finds'} example {number} of `{kind}`"


def finds(search: Search, one: Rule, text: str) -> bool:
    """Say whether a rule finds something in a text."""
    content = text.encode()
    hit = not one.keywords or any(compiled(keyword_pattern(keyword)).search(content) for keyword in one.keywords)
    return hit and any(True for _ in search.spans(content))


def refusal(path: Path, problems: Sequence[str]) -> AssetError:
    """Return the error that lists what is wrong with a policy."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return AssetError("\n  ".join([f"{path} is refused for {count}:", *problems]))


def _parsed(path: Path) -> policy_file.Draft:
    parser = policy_file.Parser(reading.read(path))
    draft = parser.parse()
    if parser.problems:
        raise refusal(path, parser.problems)
    return draft


def _twice(rules: Sequence[Rule]) -> list[str]:
    names = [one.id for one in rules]
    return [
        f"a second rule {name}, beside that of gitleaks" for name in sorted({n for n in names if names.count(n) > 1})
    ]


def _strangers(draft: policy_file.Draft, rules: Sequence[Rule]) -> list[str]:
    known = {one.id for one in rules}
    named = [("disable", name) for name in draft.disable] + [("enable", name) for name in draft.enable]
    named += [(f"rule {one.id}: only", name) for one in draft.rules for name in one.only]
    return [f"{key} names {name}, and there is no such rule" for key, name in named if name not in known]


def _switched(rules: Iterable[Rule], disable: Sequence[str], enable: Sequence[str]) -> Iterator[Rule]:
    for one in rules:
        wanted = (one.enabled or one.id in enable) and one.id not in disable
        yield dataclasses.replace(one, enabled=wanted)
