"""Texts that a person hands to an encoder on the command line: from flags and files, as the safety policy lets pass."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from codex_jax import config
from codex_jax.cli import layout
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import gate


_SHOWN_CHARS = 56


def taken(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a command that puts texts through an encoder."""
    decorators: Sequence[Callable[..., Any]] = (
        click.argument("source", metavar="RUN_OR_WEIGHTS", type=click.Path(path_type=Path)),
        click.option("--text", "texts", multiple=True, help="A text; may be given several times."),
        click.option("--lines", type=click.Path(path_type=Path), help="A file with a text in each line."),
        click.option("--max-length", type=click.IntRange(min=0), default=0, help="Cut texts at so many tokens."),
        click.option("--policy", default="", help="File of safety rules in place of those of the package."),
        click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest where it is not given."),
        layout.as_json,
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def allowed(texts: Sequence[str], lines: Path | None, policy: str) -> list[str]:
    """Return the texts, redacted; ConfigError for none, and for one that is blocked."""
    given = [_allowed(text, policy) for text in [*texts, *(_read(lines) if lines else [])]]
    if not given:
        raise ConfigError("there is no text: give --text, or a file with --lines")
    return given


def short(text: str) -> str:
    """Return how a text begins, on one line."""
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN_CHARS else plain[: _SHOWN_CHARS - 4] + " ..."


def _allowed(text: str, policy: str) -> str:
    verdict = gate.of(config.Safety(policy=policy)).examine(text, "prompt")
    if verdict.blocked:
        raise ConfigError(f"a text is blocked by the safety policy ({', '.join(verdict.blocked)}); leave it out")
    return verdict.text


def _read(lines: Path) -> list[str]:
    try:
        return [line for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise AssetError(f"--lines={lines} cannot be read: {error}") from error
