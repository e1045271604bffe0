"""`codex-jax run`: what a run was, two side by side, and one made once more from its record."""

from pathlib import Path
from typing import Any

import click

from codex_jax import amounts, changes, overrides, rundir, schema
from codex_jax.cli import layout, run_facts
from codex_jax.console import say, warn
from codex_jax.errors import ConfigError, Found
from codex_jax.tracking import comparison, report_facts, report_side
from codex_jax.tracking import report as reporting


@click.group(cls=layout.Group)
def run() -> None:
    """Look at what runs have left, and make one again."""


@run.command()
@click.argument("run", type=click.Path(path_type=Path))
@layout.as_json
def show(run: Path, as_json: bool) -> None:
    """Tell what a run was, how far it came, how it ended and what came of it."""
    told = run_facts.shown(run)
    if as_json:
        layout.say_json(told)
        return
    layout.say_rows(run_facts.rows(told))
    for title, listed in (("DIGESTS", run_facts.digests(told)), ("RESULTS", run_facts.results(told))):
        if table := list(listed):
            say(f"\n{title}")
            layout.say_rows(table)


@run.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page; of one run RUN/report.html.")
def report(runs: tuple[Path, ...], output: Path | None) -> None:
    """Write the page of a run anew, or one with several side by side.

    It opens without network. Of several: curves over each other, settings that
    differ, and results.
    """
    if len(runs) == 1:
        rundir.read_settings(runs[0])  # says when it is no run
        made = reporting.write_report(runs[0], report_facts.collect(runs[0]), output)
    elif output is None:
        raise ConfigError("name the page for several runs: -o FILE.html")
    else:
        made = report_side.write(runs, output)
    say(str(made))


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
        short = ((name, pair) for name, pair in found.final.items() if not name.startswith(report_facts.MANY))
        rows = [(name, *map(_number, pair)) for name, pair in short]
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


@run.command(context_settings={"ignore_unknown_options": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[--config.key=value ...]")
@click.option("--workdir", type=click.Path(path_type=Path), help="Where to train; RUN-again where it is not given.")
@click.option("--step", type=click.IntRange(min=1), help="Of the checkpoint to compare with; the newest by default.")
@layout.as_json
def reproduce(run: Path, given: tuple[str, ...], workdir: Path | None, step: int | None, as_json: bool) -> None:
    """Train once more from the record of a run, and compare.

    Settings come from config.json. Code, versions and machine that are not as
    they were are named. Data, tokenizer, policy and weights must have the
    digests they had; --config.key=value may say where they lie now (data.paths),
    or set what decides no number. Compared are the ledger, times aside, and the
    state leaf by leaf, up to the last checkpoint. Exit code 0 when all is equal,
    1 when not.
    """
    pairs = overrides.parse(given, ("--workdir", "--step", "--json"))
    from codex_jax.cli import again, reproduced  # imports jax

    there = workdir or run.with_name(f"{run.resolve().name}-again")
    if there.resolve() == run.resolve():
        raise ConfigError(f"--workdir={there} is the run itself: name a directory of its own")
    found = again.target(run, step)
    planned = again.plan(run, found, pairs)
    told: dict[str, Any] = {"run": str(run), "workdir": str(there), "step": found.step}

    def look() -> None:
        told["made_with"] = reproduced.made_with(run, there)
        for row in told["made_with"]:
            warn(f"not as it was: {row['name']}: {schema.shown(row['a'])} then, {schema.shown(row['b'])} now")
        told["assets"] = reproduced.assets(run, there)

    again.make(run, there, planned, as_json, look)
    told["settings"] = reproduced.settings(run, there)
    told["ledger"] = reproduced.ledgers(run, there, found.step, bool(found.meta.get("owes_evaluation")))
    told["state"] = reproduced.states(found, there)
    wrong = reproduced.verdict(told["settings"], told["ledger"], told["state"])
    if wrong:
        wrong += reproduced.of_devices(told["made_with"], rundir.read_settings(run))
    if as_json:
        layout.say_json({**told, "reproduced": not wrong, "first": wrong or None})
    if wrong:
        raise Found(f"not reproduced: {wrong}")
    if not as_json:
        say("")
        layout.say_rows([(row["name"], f"the same, {schema.shown(row['b'])}") for row in told["assets"]])
        layout.say_wrapped(
            f"reproduced: {amounts.counted(found.step, 'step')}, {amounts.counted(told['ledger']['rows'], 'row')} and "
            f"{amounts.counted(told['ledger']['events'], 'event')} of the ledger, "
            f"{told['state']['leaves']:,} leaves of checkpoint {found.step}"
        )
