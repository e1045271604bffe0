"""Which checkpoints stay, and why; and how the rest goes without ever looking like one.

Steps are compared as numbers, and nothing here asks a clock. A checkpoint that was damaged neither counts nor goes.
"""

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import config, console
from codex_jax.checkpoint import figures, layout, manifest, store
from codex_jax.errors import AssetError


DISCARD_TRIES = 100
DISCARD_WAIT_SECS = 0.05
CALM_LOOKS = 10  # half a second without a sign of another writer
ROLLING = "time"

Meta = Mapping[str, Any]
"""what the trainer gave a checkpoint to remember; of it `why` and `evaluation` decide here, both may be missing"""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which checkpoints stay beside the newest; what one rule keeps no other takes away."""

    keep_last: int
    """newest that are not rolling: one saved because time had passed is, and goes when there is a newer one"""
    keep_every: int = 0
    """multiples of so many steps stay for ever; 0: none"""
    keep_best: int = 0
    """best by the metric; of equal ones the newer"""
    best_metric: str = "loss"
    best_mode: str = "min"


class Decision(NamedTuple):
    """What becomes of the checkpoints of a root."""

    stays: dict[int, str]
    """why, newest first"""
    goes: list[int]
    damaged: dict[int, str]
    """what is wrong with those that do not count, and stay for their owner to look at"""


def rules(settings: config.Checkpoint) -> Rules:
    """Return the rules that the settings name."""
    return Rules(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Rules)})


def plan(metas: Mapping[int, Meta], rules: Rules) -> dict[int, str]:
    """Return which of the whole checkpoints stay, newest first, and why."""
    reasons: dict[int, list[str]] = {}
    for step in sorted(metas, reverse=True)[:1]:
        reasons[step] = ["newest"]
    for step in _last(metas, rules):
        reasons.setdefault(step, []).append(f"last {rules.keep_last}")
    for step in metas:
        if rules.keep_every and step % rules.keep_every == 0:
            reasons.setdefault(step, []).append(f"every {rules.keep_every}")
    for step in _best(metas, rules):
        reasons.setdefault(step, []).append(f"best {rules.keep_best}")
    return {step: ", ".join(reasons[step]) for step in sorted(reasons, reverse=True)}


def decide(root: Path, rules: Rules, verified: dict[int, Meta]) -> Decision:
    """Say what stays and what goes of the checkpoints of a root; nothing on disk is changed.

    `verified` holds those known to be whole. Of the others only meta.json is, until they would take a place that
    another could have, or would go: then every byte is read, and they are added.
    """
    metas, damaged = _glances(root, verified)
    verified.update({step: metas[step] for step in verified.keys() & metas.keys()})
    while unsure := [step for step in _counted(metas, rules) if step not in verified]:
        _verify(root, unsure, metas, verified, damaged)
    stays = plan(metas, rules)
    _verify(root, [step for step in metas if step not in stays and step not in verified], metas, verified, damaged)
    goes = sorted(step for step in metas if step not in stays)
    return Decision(stays, goes, damaged)


def apply(root: Path, rules: Rules, verified: dict[int, Meta]) -> Decision:
    """Delete what goes, the oldest first, and return what was decided; of the damaged ones, which stay, it warns."""
    made = decide(root, rules, verified)
    for step, reason in made.damaged.items():
        if (layout.path_of(root, step) / manifest.NAME).exists():  # else it may be somebody else's
            console.warn(f"{reason}; it is kept for you to look at, and counts for nothing")
    for step in made.goes:
        remove(layout.path_of(root, step))
        verified.pop(step)
    return made


def would_be_best(root: Path, rules: Rules, value: float | None) -> bool:
    """Return whether a checkpoint with this value of the metric, saved now, would be one of the best that stay.

    Quick: of those that are there only meta.json is verified. One still being saved is not known yet.
    """
    metas, _ = _glances(root, {})
    new = max(metas, default=0) + 1
    return new in _best({**metas, new: {"evaluation": {rules.best_metric: value}}}, rules)


def _last(metas: Mapping[int, Meta], rules: Rules) -> list[int]:
    lasting = [step for step, meta in metas.items() if meta.get("why") != ROLLING]
    return sorted(lasting, reverse=True)[: rules.keep_last]


def _best(metas: Mapping[int, Meta], rules: Rules) -> list[int]:
    sign = 1.0 if rules.best_mode == "min" else -1.0
    found = [(sign * value, -step) for step, meta in metas.items() for value in measured(meta, rules.best_metric)]
    return [-negative for _, negative in sorted(found)[: rules.keep_best]]


def measured(meta: Meta, metric: str) -> Iterator[float]:
    """Yield the value of a metric in the evaluation of exactly this step; nothing where there is no finite number."""
    evaluation = meta.get("evaluation")
    value = evaluation.get(metric) if isinstance(evaluation, Mapping) else None
    if isinstance(value, float) and math.isfinite(value):
        yield value
    elif type(value) is int and abs(value) < 2**53:
        yield float(value)


def _counted(metas: Mapping[int, Meta], rules: Rules) -> set[int]:
    """Return those that take a place which another would have if they were damaged."""
    return {*sorted(metas)[-1:], *_last(metas, rules), *_best(metas, rules)}


def _glances(root: Path, verified: Mapping[int, Meta]) -> tuple[dict[int, Meta], dict[int, str]]:
    """Return what the checkpoints remember, and why others do not say."""
    metas, damaged = dict[int, Meta](), dict[int, str]()
    for step in layout.steps(root):
        try:
            metas[step] = verified[step] if _is_told(verified.get(step)) else figures.glance(layout.path_of(root, step))
        except AssetError as error:
            damaged[step] = str(error)
    return metas, damaged


def _is_told(meta: Meta | None) -> bool:
    """Return whether all is known of a checkpoint that was verified: an evaluation that it owed may be made by now."""
    return meta is not None and not (meta.get("owes_evaluation") and meta.get("evaluation") is None)


def _verify(
    root: Path, steps: list[int], metas: dict[int, Meta], verified: dict[int, Meta], damaged: dict[int, str]
) -> None:
    """Read every byte and value of some checkpoints: they move to `verified`, or from `metas` to `damaged`."""
    for step in steps:
        try:
            store.load(layout.path_of(root, step))
        except AssetError as error:
            damaged[step] = str(error)
            del metas[step]
        else:
            verified[step] = metas[step]


def remove(directory: Path) -> None:
    """Delete a checkpoint; killed half-way, it leaves STEP.deleting, which nobody takes for a checkpoint."""
    doomed = layout.with_suffix(directory, layout.DELETING)
    if os.path.lexists(doomed):
        shutil.rmtree(doomed)
    layout.rename(directory, doomed)
    shutil.rmtree(doomed)


def discard(directory: Path) -> None:
    """Delete a save that failed, to give its space back; what still cannot be deleted is left to the next `sweep`.

    Orbax reports the first error while its other writers go on for a moment, and a writer makes its directory anew. So
    it is deleted until it stays away.
    """
    calm = 0
    for _ in range(DISCARD_TRIES):
        calm = 0 if directory.exists() else calm + 1
        if calm == CALM_LOOKS:
            return
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(DISCARD_WAIT_SECS)


def sweep(root: Path) -> list[str]:
    """Delete what killed saves and killed deletions left behind, and return the names."""
    found = layout.leftovers(root)
    for path in found:
        shutil.rmtree(path)
    return [path.name for path in found]
