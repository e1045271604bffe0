"""`codex-jax data`: make and check the store that training reads, part documents into files, look at a batch."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from codex_jax import amounts, config, console, overrides
from codex_jax.cli import batch_text, layout
from codex_jax.data import allotment, pipeline, split_files, split_manifest, store, stores
from codex_jax.data.batch import Batch
from codex_jax.data.store_stream import StoreStream
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import bypass, gate
from codex_jax.safety.gate import Gate


@click.group(cls=layout.Group)
def data() -> None:
    """Make and check what training reads, and look at a batch."""


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
    settings, guard = _load(spec, given, [("data.mode", "store"), *_pair("data.workers", workers)])
    mixture = pipeline.open_mixture(settings.data, guard)
    for made in stores.make(settings, mixture, pipeline.make_tokenizer(settings, mixture)):
        console.say(f"store      {made.directory}")
        for split in ("train", "validation"):
            report = made.report(split)
            documents = amounts.counted(report.trained, "document")
            console.say(
                f"{split:<11}{report.tokens:,} tokens of {documents}; {report.read:,} read,\n"
                f"{'':<11}{report.held_out:,} of the other split, {report.filtered:,} filtered, "
                f"{report.quarantined:,} quarantined, {report.blocked:,} blocked,\n"
                f"{'':<11}among them {report.duplicates:,} copies of documents to validate on"
            )


@data.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(directory: Path, as_json: bool) -> None:
    """Read a store or a split and its sources again; name what differs."""
    facts, differing = _verify_split(directory) if split_manifest.is_in(directory) else _verify_store(directory)
    if as_json:
        console.say(json.dumps({**facts, "ok": not differing, "differing": differing}))
    if differing:
        more = f"\nand {len(differing) - 1:,} more differ" if len(differing) > 1 else ""
        raise AssetError(f"{differing[0]}{more}")
    if not as_json:
        _, sources, parts = facts
        counts = " and ".join(amounts.counted(facts[name], name.removesuffix("s")) for name in (sources, parts))
        console.say(f"{directory}: {counts} are as they were")


def _verify_store(directory: Path) -> tuple[dict[str, Any], list[str]]:
    found = store.read(directory)
    return {"store": str(directory), "sources": len(found.sources), "shards": len(found.shards)}, store.verify(found)


def _verify_split(directory: Path) -> tuple[dict[str, Any], list[str]]:
    listed = split_manifest.read(directory)
    facts = {"split": str(directory), "sources": len(listed["sources"]), "files": len(listed["files"])}
    return facts, split_manifest.verify(directory, listed)


@data.command(context_settings=SETTINGS)
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[PATH ...] [--config.key=value ...]")
@click.option("--config", "spec", default="", metavar="FILE[:SIZE]", help="A file of configs/ that names the sources.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A directory that is not there yet.")
@click.option(
    "--fractions", default="0.8,0.1,0.1", show_default=True, help="Of train, validation and, with a third, test."
)
@click.option("--seed", type=click.IntRange(min=0), help="data.seed where it is not given.")
@click.option("--stable", is_flag=True, help="Cut by hash, not by count: another document moves none.")
@click.option(
    "--duplicates",
    type=click.Choice(("keep", "drop", "fail")),
    default="keep",
    show_default=True,
    help="What to do with exact copies; they are never parted.",
)
@layout.as_json
def split(
    given: tuple[str, ...],
    spec: str,
    out: Path,
    fractions: str,
    seed: int | None,
    stable: bool,
    duplicates: str,
    as_json: bool,
) -> None:
    """Part documents into train, validation and test files.

    Writes JSON Lines and a manifest with the SHA-256 of all files and sources,
    or nothing. What is written is redacted as it would be in training, since a
    file may go where its source may not. --config.safety.enabled=false writes
    documents as they are, says so, and has the manifest say so.
    """
    paths, rest = _paths_and_settings(given)
    named = [("data.paths", repr(paths))] if paths else []
    settings, guard, origin = _load_with_origin(spec, rest, [*named, *_pair("data.seed", seed)])
    _refuse_unsplit(origin)
    if not (spec or settings.data.paths or settings.data.source or settings.data.mix):
        raise ConfigError("name the files to split, or a --config that does")
    wish = split_files.Wish(allotment.parse(fractions), pipeline.data_seed(settings), stable, duplicates)
    made = split_files.split(split_files.open_reader(settings, guard, "PATH" if paths else ""), wish, out)
    if as_json:
        layout.say_json({"split": str(out), **made})
    else:
        _say_split(out, made)


# What a split of documents goes by, and what it has flags of its own for.
_OF_SPLIT = re.compile(
    r"safety\..*|run\.seed|data\.(mix\..*|source|.*paths|split_name|document|.*_field|objective|labels|document_bytes"
    r"|max_.*|window_bytes|seed)"
)
_FLAGS = {
    "data.validation_fraction": "--fractions",
    "data.test_fraction": "--fractions",
    "data.duplicates": "--duplicates",
}


def _refuse_unsplit(origin: Mapping[str, str]) -> None:
    """Raise ConfigError for settings that are given here and change nothing; a file's may be of training."""
    given = [name for name, where in origin.items() if where == "command line" and not _OF_SPLIT.fullmatch(name)]
    given += [name for name in _FLAGS if origin[name] not in ("default", "command line")]
    if given:
        lines = [f"  {name}: " + (f"use {_FLAGS[name]}" if name in _FLAGS else "leave it out") for name in given]
        raise ConfigError("\n".join(["codex-jax data split does not go by", *lines]))


def _say_split(out: Path, made: Mapping[str, Any]) -> None:
    counts = made["counts"]
    console.say(f"split      {out}, {made['method']}, seed {made['seed']}")
    for name in allotment.SPLITS:
        if facts := made["files"].get(f"{name}.jsonl"):
            console.say(f"{name:<11}{amounts.counted(facts['rows'], 'document')}, sha256 {facts['sha256'][:12]}")
    console.say(
        f"{'read':<11}{counts['read']:,}: {counts['copies']:,} copies ({counts['dropped']:,} dropped), "
        f"{counts['filtered']:,} filtered,\n{'':<11}{counts['quarantined']:,} quarantined, "
        f"{counts['blocked']:,} blocked, {sum(counts['findings'].values()):,} findings of the safety policy"
    )


def _paths_and_settings(given: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Part the arguments that are no flag, and no value of one, from the others."""
    paths: list[str] = []
    rest: list[str] = []
    for argument in given:
        is_value = bool(rest) and rest[-1].startswith("--") and "=" not in rest[-1]
        (rest if argument.startswith("--") or is_value else paths).append(argument)
    return paths, tuple(rest)


@data.command(context_settings=SETTINGS)
@with_config
@click.option("--batch", "number", default=0, type=click.IntRange(min=0), help="Which batch, from 0.")
def show(spec: str, given: tuple[str, ...], number: int) -> None:
    """Print a batch as text, with what of it is learnt."""
    settings, guard = _load(spec, given, [])
    mixture = pipeline.open_mixture(settings.data, guard)
    tokenizer = pipeline.make_tokenizer(settings, mixture)
    stream = pipeline.train_stream(settings, mixture, tokenizer, settings.train.global_batch_size)
    try:
        batch = _batch(stream, number)
    finally:
        stream.close()
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console.say(f"batch {number} of data.mode={settings.data.mode}: {batch_text.summary(batch)}")
    for line in batch_text.lines(batch, tokenizer, settings.data, coloured=coloured):
        console.say(line)


def _batch(stream: pipeline.Stream, number: int) -> Batch:
    if isinstance(stream, StoreStream):
        stream.seek(number)
        return next(stream)
    for _ in range(number):
        next(stream)
    return next(stream)


def _load(spec: str, given: tuple[str, ...], fixed: list[tuple[str, str]]) -> tuple[config.Config, Gate]:
    return _load_with_origin(spec, given, fixed)[:2]


def _load_with_origin(
    spec: str, given: tuple[str, ...], fixed: list[tuple[str, str]]
) -> tuple[config.Config, Gate, dict[str, str]]:
    """Return the settings, their gate and where each setting is from; `fixed` are those of the command's own flags."""
    pairs = overrides.parse(given, ("--config", "--workers", "--batch"))
    said = dict([*overrides.split(spec).pairs, *pairs])
    for name, value in fixed:
        if said.get(name, value) != value:
            raise ConfigError(f"{name}={said[name]} contradicts this command, which has {value}: leave it out")
    settings, origin = overrides.load(spec, [*pairs, *fixed])
    guard = gate.of(settings.safety)
    bypass.announce(guard.bypass)
    return settings, guard, origin


def _pair(name: str, value: Any) -> list[tuple[str, str]]:
    return [] if value is None else [(name, str(value))]
