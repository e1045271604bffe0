"""Tells by the name that something stands under that it is a secret, whatever it says: {"password": "short"}."""

import functools

from codex_jax.safety.engine import Engine


# No word, no placeholder and no name in a program: a rule that finds it beside a name has found the name.
_PROBE = "Xk29-mQz1-aB77"
# A name that says nothing: a rule that finds the probe beside it finds it anywhere.
_NO_NAME = "value"


@functools.lru_cache(maxsize=4096)
def rule_of(name: str, engine: Engine) -> str:
    """Return the rule that takes what stands under a name for a secret, where texts reach a file; empty for none."""
    found = _rules(name, engine)
    return min(found - _rules(_NO_NAME, engine), default="")


def _rules(name: str, engine: Engine) -> set[str]:
    # The name as it would stand in a program: what a rule finds there behind it is the value of a secret.
    before = f'"{name}": "'
    matches = engine.examine(f'{before}{_PROBE}"', "log").matches
    return {one.rule for one in matches if one.start == len(before) and one.action in ("block", "redact")}
