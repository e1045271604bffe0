"""`codex-jax data`: make and check the store that training reads, and look at a batch."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codex_jax import config, console, overrides
from codex_jax.cli import batch_text, layout
from codex_jax.data import pipeline, store, stores
from codex_jax.data.batch import Batch
from codex_jax.data.store_stream import StoreStream
from codex_jax.errors import AssetError


@click.group(cls=layout.Group)
def data() -> None:
    """Make and check the store that training reads, and look at a batch."""


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of training: --config FILE and --config.key=value."""
    command = click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[--config.key=value ...]")(command)
    return click.option("--config", "spec", required=True, metavar="FILE[:SIZE]", help="A file of configs/.")(command)


SETTINGS = {"ignore_unknown_options": True}


@data.command(context_settings=SETTINGS)
@with_config
@click.option("--workers", type=click.IntRange(min=0), help="Processes; data.workers where it is not given.")
def build(spec: str, given: tuple[str, ...], workers: int | None) -> None:
    """Tokenise once, into the store that data.mode=store reads.

    A build that was stopped goes on.
    """
    settings = _load(spec, given, [("data.mode", "store"), *_pair("data.workers", workers)])
    mixture = pipeline.open_mixture(settings.data)
    for made in stores.make(settings, mixture, pipeline.make_tokenizer(settings, mixture)):
        console.say(f"store      {made.directory}")
        for split in ("train", "validation"):
            report = made.report(split)
            console.say(
                f"{split:<11}{report.tokens:,} tokens of {report.trained:,} documents; {report.read:,} read,\n"
                f"{'':<11}{report.held_out:,} of the other split, {report.filtered:,} filtered, "
                f"{report.quarantined:,} quarantined,\n"
                f"{'':<11}{report.duplicates:,} copies of documents to validate on"
            )


@data.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(directory: Path, as_json: bool) -> None:
    """Read a store and its sources again; name what differs."""
    found = store.read(directory)
    differing = store.verify(found)
    if as_json:
        counts = {"sources": len(found.sources), "shards": len(found.shards)}
        console.say(json.dumps({"store": str(directory), "ok": not differing, **counts, "differing": differing}))
    if differing:
        more = f"\nand {len(differing) - 1:,} more differ" if len(differing) > 1 else ""
        raise AssetError(f"{differing[0]}{more}")
    if not as_json:
        console.say(f"{directory}: {len(found.sources):,} sources and {len(found.shards):,} shards are as they were")


@data.command(context_settings=SETTINGS)
@with_config
@click.option("--batch", "number", default=0, type=click.IntRange(min=0), help="Which batch, from 0.")
def show(spec: str, given: tuple[str, ...], number: int) -> None:
    """Print a batch as text, with what of it is learnt."""
    settings = _load(spec, given, [])
    mixture = pipeline.open_mixture(settings.data)
    tokenizer = pipeline.make_tokenizer(settings, mixture)
    stream = pipeline.train_stream(settings, mixture, tokenizer, settings.train.global_batch_size)
    try:
        batch = _batch(stream, number)
    finally:
        stream.close()
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console.say(f"batch {number} of data.mode={settings.data.mode}: {batch_text.summary(batch)}")
    for line in batch_text.lines(batch, tokenizer, coloured=coloured):
        console.say(line)


def _batch(stream: pipeline.Stream, number: int) -> Batch:
    if isinstance(stream, StoreStream):
        stream.seek(number)
        return next(stream)
    for _ in range(number):
        next(stream)
    return next(stream)


def _load(spec: str, given: tuple[str, ...], fixed: list[tuple[str, str]]) -> config.Config:
    pairs = overrides.parse(given, ("--config", "--workers", "--batch"))
    return overrides.load(spec, [*pairs, *fixed])[0]


def _pair(name: str, value: Any) -> list[tuple[str, str]]:
    return [] if value is None else [(name, str(value))]
