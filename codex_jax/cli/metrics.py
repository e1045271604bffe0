"""`codex-jax metrics`: what a run has measured, as a table, as a file, or in another tool."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from codex_jax import amounts, config, overrides, rundir, schema
from codex_jax.cli import layout
from codex_jax.console import say
from codex_jax.tracking import export as exporting
from codex_jax.tracking import replay as replaying
from codex_jax.tracking import report_facts


# What a sink is given, by the name of its method.
HELD = {
    "scalars": "row",
    "text": "sample",
    "histogram": "histogram",
    "figure": "figure",
    "artifact": "file",
}
RUN = click.argument("run", type=click.Path(path_type=Path))


@click.group(cls=layout.Group)
def metrics() -> None:
    """Look at, export and replay the metrics of a run."""


@metrics.command("list")
@RUN
@layout.as_json
def list_(run: Path, as_json: bool) -> None:
    """Name what was measured, how often, and in which steps."""
    found = _statistics(run)
    if as_json:
        layout.say_json([{name: one[name] for name in ("name", "values", "first_step", "last_step")} for one in found])
        return
    rows = [(one["name"], f"{one['values']:,}", f"{one['first_step']}-{one['last_step']}") for one in _short(found)]
    layout.say_rows([("METRIC", "VALUES", "STEPS"), *rows])
    _say_left_out(found)


@metrics.command()
@RUN
@layout.as_json
def summary(run: Path, as_json: bool) -> None:
    """Tell the first, last, smallest and largest value of each metric.

    Values that were not finite are counted and otherwise left out.
    """
    found = _statistics(run)
    if as_json:
        layout.say_json(found)
        return
    rows = [
        (one["name"], *(_number(one[key]) for key in ("first", "last", "min", "max")), _missing(one["non_finite"]))
        for one in _short(found)
    ]
    layout.say_rows([("METRIC", "FIRST", "LAST", "MIN", "MAX", ""), *rows])
    _say_left_out(found)


@metrics.command()
@RUN
@click.option("--to", "file", required=True, type=click.Path(path_type=Path), help="FILE.csv, .sqlite or .parquet")
@layout.as_json
def export(run: Path, file: Path, as_json: bool) -> None:
    """Write all values to a new file, one a row.

    Columns: step, split, name, value, time (seconds since 1970, UTC).
    """
    count = exporting.export(run, file)
    if as_json:
        layout.say_json({"file": str(file), "values": count})
    else:
        say(f"{file}: {amounts.counted(count, 'value')}")


@metrics.command(context_settings={"ignore_unknown_options": True})
@RUN
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[--config.tracking.key=value ...]")
@click.option("--to", "name", required=True, help="mlflow, wandb, tensorboard, csv, or a sink of a package")
@layout.as_json
def replay(run: Path, given: tuple[str, ...], name: str, as_json: bool) -> None:
    """Make the copy of a run in another tool anew from its ledger.

    It may be on or off, and lost, broken or complete: afterwards it holds what
    the ledger does, once. --config.tracking.key=value says where it is, if not
    where the run had it. Exit code 4 when the tool does not take it.
    """
    pairs = overrides.parse(given, ("--to", "--json"))
    written = rundir.read_settings(run)
    base = overrides.completed(dict(schema.flatten(written)))
    settings = config.resolve(overrides.change(base, pairs))
    taken = replaying.replay(run, name.lower(), settings.tracking, written)
    if as_json:
        layout.say_json({"run": str(run), "to": name.lower(), "calls": taken})
        return
    held = [amounts.counted(taken[method], noun) for method, noun in HELD.items() if method in taken]
    say(f"{name.lower()} holds {run}: {', '.join(held)}")


@dataclasses.dataclass
class _Seen:
    """What is known of one metric."""

    values: int = 0
    non_finite: int = 0
    first_step: int = 0
    last_step: int = 0
    first: float | None = None
    last: float | None = None
    min: float | None = None
    max: float | None = None

    def take(self, step: int, value: float | None) -> None:
        self.first_step = step if self.values == 0 else self.first_step
        self.values, self.last_step = self.values + 1, step
        if value is None:
            self.non_finite += 1
            return
        self.first = value if self.first is None else self.first
        self.last = value
        self.min = value if self.min is None else min(self.min, value)
        self.max = value if self.max is None else max(self.max, value)


def _statistics(run: Path) -> list[dict[str, Any]]:
    seen: dict[str, _Seen] = {}
    for step, split, name, value, _ in exporting.values(run):
        seen.setdefault(f"{split}/{name}", _Seen()).take(step, value)
    return [{"name": name, **dataclasses.asdict(one)} for name, one in sorted(seen.items())]


def _short(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if not one["name"].startswith(report_facts.MANY)]


def _say_left_out(found: list[dict[str, Any]]) -> None:
    if left_out := len(found) - len(_short(found)):
        layout.say_wrapped(f"and {left_out:,} of {report_facts.MANY}, which --json and `codex-jax metrics export` have")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _missing(count: int) -> str:
    return f"{count:,} not finite" if count else ""
