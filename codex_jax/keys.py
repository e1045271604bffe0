"""What --list-keys prints: every setting with its default, meaning and range, 80 columns wide."""

import textwrap
import typing

from codex_jax import config, schema


WIDTH = 80
HEAD = (
    "Every setting with its default, as it is before a config file changes it. --config.KEY=VALUE sets one; NAME is a "
    "name of your own, of a source of a mixture."
)
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def listing() -> str:
    """Return a paragraph for each setting, in the order they are declared."""
    blocks = [_wrapped(HEAD, "")]
    for name, field, kind in schema.walk(config.Config, given=["data.mix.NAME."]):
        value = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        value = schema.shown(value) if kind is bool else value
        values = _range(kind, field.metadata["low"], field.metadata["high"], field.metadata["choices"])
        lines = [f"{name}={value}", _wrapped(field.metadata["meaning"], "    "), _wrapped(values, "    ")]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _range(kind: type, low: float | None, high: float | None, choices: tuple[str, ...]) -> str:
    """Return what may be given, in words."""
    if choices:
        return f"one of {', '.join(choices)}"
    if typing.get_origin(kind) is tuple:
        return "texts, separated by commas"
    bounds = [f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else ""]
    return ", ".join([_KINDS[kind], *filter(None, bounds)])


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
