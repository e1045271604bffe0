"""Redacts nested data, such as a configuration or an event: by what a text says, and by the name it stands under."""

from typing import Any

from codex_jax.safety.engine import Engine


# No word, no placeholder and no name in a program: a rule that finds it beside a name has found the name.
_PROBE = "Xk29-mQz1-aB77"


def redacted(value: Any, engine: Engine, stage: str) -> Any:
    """Return the data with placeholders in its texts, and in place of whole values under names of secrets.

    Mappings, lists and tuples are gone through; keys, numbers under other names and None stay as they are.
    """
    if isinstance(value, dict):
        return {key: _under(str(key), inner, engine, stage) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, engine, stage) for inner in value]
    return engine.examine(value, stage).text if isinstance(value, str) else value


def _under(name: str, value: Any, engine: Engine, stage: str) -> Any:
    """Return what stands under a name."""
    if value in (None, "") or isinstance(value, bool | dict | list | tuple):
        return redacted(value, engine, stage)
    # The name as it would stand in a program: what a rule finds there behind it is the value of a secret.
    before = f'"{name}": "'
    for match in engine.examine(f'{before}{_PROBE}"', stage).matches:
        if match.start == len(before) and match.action in ("block", "redact"):
            return f"[REDACTED:{match.rule}]"
    return redacted(value, engine, stage)
