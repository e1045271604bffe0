"""What a checkpoint remembers, with the evaluation of its step even where that was made by the run that went on."""

from pathlib import Path
from typing import Any

from codex_jax.checkpoint import document
from codex_jax.tracking import ledger


def glance(directory: Path) -> dict[str, Any]:
    """Return what the trainer wanted to be remembered; AssetError as `document.glance` raises it, and of the ledger.

    A checkpoint that a signal led to in an evaluation owes it, and has no figure of its own: it is never written again.
    Where the ledger of its run has the evaluation, it is taken from there.
    """
    meta = document.glance(directory)
    metrics = directory.parent.parent / ledger.METRICS
    if not meta.get("owes_evaluation") or not metrics.exists():
        return meta
    step = int(directory.name)
    rows = [row for row in ledger.read(metrics) if (row["step"], row["split"]) == (step, "validation")]
    return {**meta, "evaluation": rows[-1]["metrics"]} if rows else meta
