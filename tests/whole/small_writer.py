"""The writer of a run without a run: a ledger in a directory, and the sinks a test names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codex_jax import config
from codex_jax.tracking import registry
from codex_jax.tracking.ledger import Ledger
from codex_jax.tracking.multi_writer import MultiWriter
from codex_jax.tracking.sink import Sink, Source


def settings(changes: Mapping[str, Any]) -> config.Config:
    """Return the defaults with all sinks off and some keys of `tracking` changed, by their dotted names."""
    nested = config.default().to_dict()
    off: dict[str, Any] = {"csv.enabled": False, "tensorboard.enabled": False}
    for name, value in {**off, **changes}.items():
        *parents, last = name.split(".")
        section = nested["tracking"]
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config.resolve(nested)


def source(
    workdir: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    run_id: str = "r1",
    tags: Mapping[str, str] | None = None,
) -> Source:
    """Return what a sink is told of the run."""
    made = settings(changes or {})
    return Source(workdir, run_id, config.to_dict(made), tags or {}, made.tracking)


def switched_on(workdir: Path, changes: Mapping[str, Any], *, run_id: str = "r1", resume_step: int = 0) -> MultiWriter:
    """Open the writer of a run with these keys of `tracking` changed."""
    made = source(workdir, changes, run_id=run_id)
    book = Ledger(workdir, run_id=run_id, resume_step=resume_step)
    return MultiWriter(book, made, registry.chosen(made.tracking))


def bare(
    workdir: Path,
    sinks: Mapping[str, type[Sink]] | None = None,
    *,
    run_id: str = "r1",
    resume_step: int = 0,
    close_secs: float = 10.0,
    outward: Callable[[Any], Any] = lambda value: value,
) -> MultiWriter:
    """Open a writer with exactly these sinks."""
    book = Ledger(workdir, run_id=run_id, resume_step=resume_step)
    return MultiWriter(book, source(workdir, run_id=run_id), sinks or {}, close_secs=close_secs, outward=outward)
