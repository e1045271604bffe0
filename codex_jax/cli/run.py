"""`codex-jax run`: two runs side by side."""

from pathlib import Path
from typing import Any

import click

from codex_jax import amounts, changes, rundir, schema
from codex_jax.cli import layout
from codex_jax.console import say
from codex_jax.errors import Found
from codex_jax.tracking import comparison


@click.group(cls=layout.Group)
def run() -> None:
    """Look at what runs have left."""


@run.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@layout.as_json
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Say where the ledgers of two runs part, which settings differ, and how both end.

    Times and speed are left aside. Exit code 0 when the ledgers are equal, 1
    when not.
    """
    settings = _settings(a, b)
    found = comparison.compare(a, b)
    if as_json:
        layout.say_json({"a": str(a), "b": str(b), "equal": found.is_equal, **_told(found), "settings": settings})
    else:
        layout.say_rows([("A", str(a)), ("B", str(b))])
        _say_parting(found)
        _say_settings(settings)
        rows = [(name, *map(_number, pair)) for name, pair in found.final.items()]
        layout.say_rows([("LATEST", "A", "B"), *rows])
    if not found.is_equal:
        raise Found("the ledgers differ")


def _settings(a: Path, b: Path) -> list[dict[str, Any]]:
    one, other = (dict(schema.flatten(rundir.read_settings(path))) for path in (a, b))
    return [
        {"name": name, "a": one.get(name), "b": other.get(name), "decides": changes.decides(name)}
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _told(found: comparison.Comparison) -> dict[str, Any]:
    final = {name: {"a": a, "b": b} for name, (a, b) in found.final.items()}
    first = found.first._asdict() if found.first else None
    return {**found._asdict(), "first": first, "final": final}


def _say_parting(found: comparison.Comparison) -> None:
    if found.is_equal:
        say(f"the ledgers are equal: {amounts.counted(found.rows, 'row')}, times and speed aside")
        return
    if found.first:
        step, split, metric, a, b = found.first
        layout.say_wrapped(f"they part at step {step:,}: {split}/{metric} is {a} in A, {b} in B")
    else:
        say(f"where both have a row they agree: {amounts.counted(found.rows, 'row')}")
    for name, count in (("A", found.only_a), ("B", found.only_b)):
        if count:
            say(f"only {name} has {amounts.counted(count, 'row')}")


def _say_settings(settings: list[dict[str, Any]]) -> None:
    if not settings:
        say("no setting differs")
        return
    for row in settings:
        aside = "" if row["decides"] else " (decides no number)"
        told = f"{schema.shown(row['a'])} in A, {schema.shown(row['b'])} in B{aside}"
        layout.say_rows([(row["name"], told)])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
