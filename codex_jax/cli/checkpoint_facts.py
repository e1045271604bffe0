"""What `codex-jax checkpoint` finds out about the checkpoints of a run; it builds no model."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import config, contradictions, rundir, schema
from codex_jax.checkpoint import figures, layout, manifest, retention, store
from codex_jax.checkpoint.retention import Meta, Rules
from codex_jax.checkpoint.store import Found
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tracking import ledger


def rules(run: Path, given: Mapping[str, Any]) -> Rules:
    """Return the rules of a run's own settings, with those that are given in their place.

    A run of an older version has the defaults where its settings say nothing. AssetError when they are damaged,
    ConfigError when what is given would keep the worst.
    """
    written = rundir.read_settings(run).get("checkpoint")
    known = {name: (field, kind) for name, field, kind in schema.walk(config.Checkpoint)}
    found, wrong = {}, []
    for name, value in written.items() if isinstance(written, Mapping) else ():
        if name in known:
            found[name], problems = schema.check(f"checkpoint.{name}", value, *known[name])
            wrong += problems
    if wrong:
        raise AssetError("\n".join([f"{run / 'config.json'} is not what this version reads:", *wrong]))
    chosen = {name: value for name, value in given.items() if value is not None}
    if "best_metric" in chosen and "best_mode" not in chosen:
        chosen["best_mode"] = "max" if chosen["best_metric"].endswith("accuracy") else "min"
    made = retention.rules(config.Checkpoint(**{**found, **chosen}))
    pair = {f"checkpoint.{name}": getattr(made, name) for name in ("best_metric", "best_mode")}
    if problems := list(contradictions.between(pair, {})):
        raise ConfigError("\n".join([*problems, "(here: --metric and --mode)"]))
    return made


def listed(run: Path, rules: Rules, *, verify: bool) -> dict[str, Any]:
    """Return the checkpoints of a run, newest first, each with why it stays, and what lies beside them."""
    root = _root(run)
    times = _times(run)
    metas, rows = dict[int, Meta](), []
    for step in layout.steps(root):
        directory = layout.path_of(root, step)
        row, meta = _row(directory, step, times, verify=verify)
        if meta is None and not os.path.lexists(directory):  # the trainer at work has just deleted it
            continue
        rows.append(row)
        if meta is not None:
            metas[step] = meta
    stays = retention.plan(metas, rules)
    rows = [{**row, "kept": stays.get(row["step"])} for row in rows]
    return {"run": str(run), "checkpoints": rows, "beside": [path.name for path in layout.beside(root)]}


def _row(directory: Path, step: int, times: Mapping[str, float], *, verify: bool) -> tuple[dict[str, Any], Meta | None]:
    row: dict[str, Any] = {"step": step, "time": None, "bytes": None, "why": None, "evaluation": None}
    try:
        made = manifest.read(directory)
        row |= {"time": times.get(made.root), "bytes": made.num_bytes}
        meta = figures.glance(directory)
        row |= {"why": meta.get("why"), "evaluation": meta.get("evaluation")}
        if verify:
            store.load(directory)
    except AssetError as error:
        return {**row, "state": "damaged", "wrong": _after(directory, error)}, None
    return {**row, "state": "whole" if verify else None, "wrong": None}, meta


def _times(run: Path) -> dict[str, float]:
    """Return when checkpoints were acknowledged, by their digest: a copy has other times of its files."""
    events = run / ledger.EVENTS
    rows = ledger.read(events) if events.exists() else ()
    return {row["digest"]: row["time"] for row in rows if row["event"] == ledger.SAVED}


def verified(path: Path, step: int | None) -> list[dict[str, Any]]:
    """Read every byte of a run's checkpoints, or of one; AssetError when there is none to read."""
    if is_checkpoint(path):
        if step is not None:
            raise ConfigError(f"{path} is one checkpoint: leave out the step")
        return [_verified(path)]
    root = _root(path)
    steps = layout.steps(root)
    if not steps:
        raise AssetError(f"{root} has no checkpoint yet")
    if step is not None and step not in steps:
        store.locate(root, step)  # says which there are
    directories = [layout.path_of(root, one) for one in (steps if step is None else [step])]
    rows = [_verified(directory) for directory in directories]
    # What a trainer at work has deleted meanwhile is not damaged.
    return [row for row, directory in zip(rows, directories, strict=True) if row["ok"] or os.path.lexists(directory)]


def _verified(directory: Path) -> dict[str, Any]:
    row = {"step": int(directory.name), "path": str(directory)}
    try:
        made = store.load(directory).manifest
    except manifest.Damaged as error:
        return {**row, "ok": False, "files": None, "bytes": None, "wrong": error.problems}
    except AssetError as error:
        return {**row, "ok": False, "files": None, "bytes": None, "wrong": [_after(directory, error)]}
    return {**row, "ok": True, "files": len(made.files), "bytes": made.num_bytes, "wrong": []}


def pruned(run: Path, rules: Rules, *, dry_run: bool, asked_for_best: bool) -> dict[str, Any]:
    """Delete what the rules do not keep, and return what went and what stays; a dry run deletes nothing.

    ConfigError while another process has the run, or when no checkpoint has the figure that is asked for.
    """
    root = _root(run)
    with contextlib.nullcontext() if dry_run else rundir.claim(run):
        known: dict[int, Meta] = {}
        made = retention.decide(root, rules, known)
        if asked_for_best and rules.keep_best and not any(_has(root, step, rules) for step in made.stays):
            raise ConfigError(f"no checkpoint of {run} has an evaluation with {rules.best_metric}: nothing is deleted")
        beside = layout.leftovers(root)
        sizes = {step: manifest.read(layout.path_of(root, step)).num_bytes for step in [*made.stays, *made.goes]}
        sizes_beside = [_bytes_below(path) for path in beside]
        if not dry_run:
            retention.sweep(root)
            retention.apply(root, rules, known)
    return {
        "run": str(run),
        "dry_run": dry_run,
        "rules": dataclasses.asdict(rules),
        "goes": [{"step": step, "bytes": sizes[step]} for step in made.goes],
        "stays": [{"step": step, "bytes": sizes[step], "kept": why} for step, why in made.stays.items()],
        "damaged": [{"step": step, "wrong": wrong} for step, wrong in made.damaged.items()],
        "leftovers": [path.name for path in beside],
        "bytes": sum(sizes[step] for step in made.goes) + sum(sizes_beside),
    }


def _has(root: Path, step: int, rules: Rules) -> bool:
    return any(retention.measured(figures.glance(layout.path_of(root, step)), rules.best_metric))


def sides(given: tuple[str, ...]) -> tuple[Found, Found]:
    """Return the two checkpoints that are to be compared: verified, though their values need not be finite.

    `given` are two of: a checkpoint, a run; or a run and two of its steps. Of two runs it is the newest step that both
    have, of a run beside a checkpoint the step of that.
    """
    if len(given) == 3:
        if not all(map(layout.is_step, given[1:])):
            raise ConfigError(f"{given[1]} and {given[2]} must be the steps of two checkpoints of {given[0]}")
        root = _root(Path(given[0]))
        return _read(root, int(given[1])), _read(root, int(given[2]))
    if len(given) != 2:
        raise ConfigError("name two checkpoints, two runs, or a run and two of its steps")
    paths = [Path(name) for name in given]
    steps = [[int(path.name)] if is_checkpoint(path) else layout.steps(_root(path)) for path in paths]
    if all(map(is_checkpoint, paths)):
        return _side(paths[0], steps[0][0]), _side(paths[1], steps[1][0])
    common = next((step for step in steps[0] if step in steps[1]), None)
    if common is None:
        told = [f"{path} has {', '.join(map(str, own)) or 'none'}" for path, own in zip(paths, steps, strict=True)]
        raise AssetError(f"no step has a checkpoint in both: {', and '.join(told)}")
    return _side(paths[0], common), _side(paths[1], common)


def _side(path: Path, step: int) -> Found:
    return _read(path.parent if is_checkpoint(path) else _root(path), step)


def _read(root: Path, step: int) -> Found:
    return store.load_as_written(store.locate(root, step))


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is that of a checkpoint, and not of a run."""
    return layout.is_step(path.name) and not (path / "checkpoints").is_dir() and path.is_dir()


def _root(run: Path) -> Path:
    """Return where a run has its checkpoints; AssetError when it is none, or has lost them."""
    root = run / "checkpoints"
    if not run.exists():
        raise AssetError(f"there is no {run}: name the directory of a run, or one of its checkpoints/STEP")
    if not root.is_dir() and not (run / "config.json").is_file():
        raise AssetError(
            f"{run} is neither the directory of a run nor a checkpoint: it has no checkpoints/, and its name is no step"
        )
    if not layout.steps(root):
        ledger.refuse_to_lose_a_run(run)
    return root


def _bytes_below(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def _after(directory: Path, error: AssetError) -> str:
    return str(error).removeprefix(f"{directory}: ")
