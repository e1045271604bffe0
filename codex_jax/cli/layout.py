"""What the commands print: 80 columns for people, one JSON document for programs."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click

from codex_jax.console import say


WIDTH = 80
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Group(click.Group):
    """Named without a command it prints its help, and fails since nothing was done."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, if there are any."""
        if not args:
            say(ctx.get_help())
            raise click.UsageError("nothing was asked for: name one of the above", ctx)
        return super().parse_args(ctx, args)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say_rows(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Print rows in columns; the last one is broken into lines where it does not fit. A long word stays whole."""
    table = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) + 2 for column in list(zip(*table, strict=True))[:-1]]
    for row in table:
        head = indent + "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines = textwrap.wrap(row[-1], max(WIDTH - len(head), 20), break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(lines or [""]):
            say(((head if number == 0 else " " * len(head)) + line).rstrip())


def say_wrapped(text: str) -> None:
    """Print words in lines of 80 columns."""
    say(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False))
