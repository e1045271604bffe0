"""`codex-jax checkpoint`: which there are and why they stay, whether they are whole, and where two differ."""

import time
from pathlib import Path
from typing import Any

import click

from codex_jax import amounts
from codex_jax.cli import layout
from codex_jax.console import say
from codex_jax.errors import AssetError, Found


MAX_LISTED = 5


@click.group(cls=layout.Group)
def checkpoint() -> None:
    """List, verify, prune and compare checkpoints.

    RUN is the directory of a run, the --workdir it was trained in.
    """


@checkpoint.command("list")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read every byte, and say which are whole.")
@layout.as_json
def list_(run: Path, verify: bool, as_json: bool) -> None:
    """List the checkpoints of a run, and why each stays.

    One that no setting keeps any more goes when the run saves the next, or by
    prune.
    """
    from codex_jax.cli import checkpoint_facts  # imports jax

    rules = checkpoint_facts.rules(run, {})
    facts = checkpoint_facts.listed(run, rules, verify=verify)
    if as_json:
        layout.say_json(facts)
        return
    if not facts["checkpoints"]:
        say(f"{run} has no checkpoint yet")
    else:
        head = ("STEP", "SAVED", "SIZE", "WHY", rules.best_metric.upper(), "KEPT")
        layout.say_rows([head, *(_cells(row, rules.best_metric) for row in facts["checkpoints"])])
    if facts["beside"]:
        layout.say_wrapped(f"beside them: {', '.join(facts['beside'])}")


def _cells(row: dict[str, Any], metric: str) -> tuple[str, ...]:
    made = "-" if row["time"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row["time"]))
    size = "-" if row["bytes"] is None else amounts.size(row["bytes"])
    evaluation = row["evaluation"]
    value = evaluation.get(metric) if isinstance(evaluation, dict) else None
    kept = row["kept"] or "not: goes at the next save"
    told = f"damaged: {row['wrong']}" if row["wrong"] else f"whole; {kept}" if row["state"] else kept
    return str(row["step"]), made, size, str(row["why"] or "-"), "-" if value is None else f"{value:.5g}", told


@checkpoint.command()
@click.argument("run_or_checkpoint", type=click.Path(path_type=Path))
@click.argument("step", type=click.IntRange(min=0), required=False)
@layout.as_json
def verify(run_or_checkpoint: Path, step: int | None, as_json: bool) -> None:
    """Read every byte, and name each file that is wrong.

    Of all checkpoints of a run, or of one wherever it was copied to. Arrays
    that hold NaN or infinite values are named, too. Exit code 3 when one is
    damaged or holds such, and when there is none.
    """
    from codex_jax.cli import checkpoint_facts

    rows = checkpoint_facts.verified(run_or_checkpoint, step)
    damaged = [row for row in rows if not row["ok"]]
    if as_json:
        layout.say_json({"ok": not damaged, "checkpoints": rows})
    else:
        layout.say_rows([(str(row["step"]), told) for row in rows for told in _verdicts(row)])
    if damaged:
        names = ", ".join(str(row["step"]) for row in damaged)
        counted = amounts.counted(len(rows), "checkpoint")
        raise AssetError(f"{len(damaged)} of {counted} of {run_or_checkpoint} damaged: {names}")


def _verdicts(row: dict[str, Any]) -> list[str]:
    whole = [f"whole, {amounts.counted(row['files'], 'file')}, {amounts.size(row['bytes'])}"] if row["ok"] else []
    return whole or [f"damaged: {wrong}" for wrong in row["wrong"]]


@checkpoint.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--keep-last", type=click.IntRange(min=1), help="In place of checkpoint.keep_last.")
@click.option("--keep-every", type=click.IntRange(min=0), help="In place of checkpoint.keep_every.")
@click.option("--keep-best", type=click.IntRange(min=0), help="In place of checkpoint.keep_best.")
@click.option(
    "--metric",
    "best_metric",
    type=click.Choice(["loss", "perplexity", "token_accuracy", "accuracy"]),
    help="In place of checkpoint.best_metric.",
)
@click.option("--mode", "best_mode", type=click.Choice(["min", "max"]), help="In place of checkpoint.best_mode.")
@click.option("--dry-run", is_flag=True, help="Say what would go; write nothing.")
@layout.as_json
def prune(run: Path, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Delete the checkpoints of a run that its settings do not keep.

    The newest whole one always stays, and so does every damaged one. Refused
    while a trainer has the run.
    """
    from codex_jax.cli import checkpoint_facts

    asked_for_best = given["keep_best"] is not None or given["best_metric"] is not None
    rules = checkpoint_facts.rules(run, given)
    facts = checkpoint_facts.pruned(run, rules, dry_run=dry_run, asked_for_best=asked_for_best)
    if as_json:
        layout.say_json(facts)
        return
    layout.say_rows([("STEP", "SIZE", "WHAT"), *_fates(facts)])
    counted = amounts.counted(len(facts["goes"]), "checkpoint")
    left = f" and {', '.join(facts['leftovers'])}" if facts["leftovers"] else ""
    layout.say_wrapped(f"{'would delete' if dry_run else 'deleted'} {counted}{left}: {amounts.size(facts['bytes'])}")


def _fates(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a row for each checkpoint, newest first."""
    rows = [(row["step"], amounts.size(row["bytes"]), f"stays: {row['kept']}") for row in facts["stays"]]
    rows += [(row["step"], amounts.size(row["bytes"]), "goes") for row in facts["goes"]]
    rows += [(row["step"], "-", "stays: damaged") for row in facts["damaged"]]
    return [(str(step), size, fate) for step, size, fate in sorted(rows, reverse=True)]


@checkpoint.command()
@click.argument("given", metavar="A B | RUN STEP STEP", nargs=-1)
@layout.as_json
def diff(given: tuple[str, ...], as_json: bool) -> None:
    """Say where two checkpoints differ, bit by bit.

    Leaves, position in the data, settings that decide numbers, counts. A and B
    are checkpoints (RUN/checkpoints/STEP) or runs, of which the newest step is
    taken that both have; one that holds NaN is compared, too, and says so.
    Exit code 0 when they are equal, 1 when not.
    """
    from codex_jax.checkpoint import comparison
    from codex_jax.cli import checkpoint_facts

    one, other = checkpoint_facts.sides(given)
    found = comparison.compare(one, other)
    if as_json:
        layout.say_json({"a": str(one.path), "b": str(other.path), "equal": found.is_equal, **_told(found)})
    else:
        layout.say_rows([("A", str(one.path)), ("B", str(other.path))])
        _say_comparison(found)
    if not found.is_equal:
        raise Found("the checkpoints differ")


def _told(found: Any) -> dict[str, Any]:
    fields: dict[str, Any] = found._asdict()
    return {
        name: [one._asdict() for one in value] if isinstance(value, list) else value for name, value in fields.items()
    }


def _say_comparison(found: Any) -> None:
    for side, counts in found.not_finite.items():
        if counts:
            layout.say_rows([(f"not finite in {side.upper()}:", _counted(counts))])
    if found.is_equal:
        say(f"equal: {found.num_leaves:,} leaves, position in the data, settings that decide numbers")
        return
    if found.leaves:
        first = found.leaves[0]
        finite = "the finite ones " if any(first.name in counts for counts in found.not_finite.values()) else ""
        by = "" if first.largest is None else f", {finite}by {first.largest:.6g} at most"
        told = first.reason or f"{first.differ:,} of {first.elements:,} elements differ{by}"
        layout.say_wrapped(f"{first.name}: {told}")
        layout.say_wrapped(f"{len(found.leaves) - 1:,} of the {found.num_leaves - 1:,} other leaves differ")
    else:
        say(f"all {found.num_leaves:,} leaves are equal")
    for title, values in (("data", found.position), ("setting", found.settings), ("noted", found.noted)):
        for value in values:
            layout.say_wrapped(f"{title} {value.name}: {str(value.a)[:60]} in A, {str(value.b)[:60]} in B")


def _counted(counts: dict[str, int]) -> str:
    told = [f"{count:,} in {name}" for name, count in counts.items()]
    more = [f"some in {len(told) - MAX_LISTED:,} more leaves"] if len(told) > MAX_LISTED else []
    return ", ".join(told[:MAX_LISTED] + more)
