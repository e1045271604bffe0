"""`codex-jax tokenizer`: which there are, whether they work, and what they do with text."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from codex_jax.cli import layout
from codex_jax.console import say
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import export, health, lines, loading, training
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.kinds import KINDS
from codex_jax.tokenizers.resolve import ASSETS
from codex_jax.tokenizers.tokenizer import Tokenizer


of_kind = click.option("--kind", default="", help="Its kind; without it the one that the files look like.")


@click.group(cls=layout.Group)
def tokenizer() -> None:
    """List, check, show, train, use and export tokenizers.

    Where a command takes PATH, gpt2 and tinyllama stand for the ones that their
    environment variables name; a directory of that name is ./gpt2.
    """


@tokenizer.command("list")
@layout.as_json
def list_(as_json: bool) -> None:
    """List the kinds of tokenizers, and those that are known by name."""
    rows = [{"name": name, "what": "kind", "source": source} for name, source in KINDS.sources().items()]
    rows += [{"name": name, "what": "asset", "source": f"found by {ASSETS[name].variable}"} for name in ASSETS]
    if as_json:
        layout.say_json(rows)
    else:
        layout.say_rows([("NAME", "WHAT", "SOURCE"), *((row["name"], row["what"], row["source"]) for row in rows)])


@tokenizer.command()
@click.argument("names", metavar="[NAME|PATH]...", nargs=-1)
@of_kind
@layout.as_json
def check(names: tuple[str, ...], kind: str, as_json: bool) -> None:
    """Say whether tokenizers work, and where they are by which rule.

    Without a name those known by name are looked for, and may be absent. Exit code 3 when one is ill, or absent though
    named.
    """
    found = [health.check(name, kind) for name in names or ASSETS]
    if as_json:
        layout.say_json([dataclasses.asdict(one) for one in found])
    for one in found if not as_json else ():
        say(f"{one.name}: {one.state}")
        layout.say_rows(_facts(one), indent="  ")
    if ill := [one.name for one in found if one.state == "ill" or (names and one.state == "absent")]:
        raise AssetError(f"{len(ill)} of {len(found)} tokenizers cannot be used: {', '.join(ill)}")


@tokenizer.command()
@click.argument("path")
@of_kind
@layout.as_json
def show(path: str, kind: str, as_json: bool) -> None:
    """Show what a tokenizer is made of."""
    found = health.check(path, kind)
    if found.state != "well":
        raise AssetError(found.problem)
    if as_json:
        layout.say_json(dataclasses.asdict(found))
        return
    layout.say_rows([*_facts(found), ("template", found.chat_template or "none")])


@tokenizer.command()
@click.argument("corpus", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--kind", default="hf", show_default=True, help="hf (byte-level BPE), sentencepiece or whitespace.")
@click.option("--algorithm", type=click.Choice(training.ALGORITHMS), help="Of sentencepiece.  [default: unigram]")
@click.option("--vocab-size", default=8192, show_default=True, type=click.IntRange(4), help="Tokens at most.")
@click.option("--character-coverage", type=click.FloatRange(0.5, 1.0), help="Of sentencepiece.  [default: 0.9995]")
@click.option(
    "--train-bytes", default=20_000_000, show_default=True, type=click.IntRange(1), help="Text to learn from at most."
)
@click.option("--seed", default=0, show_default=True, help="Draws that much from a larger corpus.")
@click.option("--dry-run", is_flag=True, help="Print what would be done as JSON, and write nothing.")
@click.option("--force", is_flag=True, help="Replace the tokenizer in the directory.")
def train(corpus: tuple[str, ...], out: Path, dry_run: bool, force: bool, **recipe: Any) -> None:
    """Train a tokenizer on files, directories or globs of UTF-8 text.

    Equal text and seed give equal files, on every machine. Nothing is normalised: every text comes back as it was,
    but for whitespace.
    """
    job = _job(corpus, **recipe)
    if dry_run:
        layout.say_json({**job.plan(), "out": str(out)})
        return
    made = job.run(out, force=force)
    layout.say_rows(
        [("written to", str(out)), ("kind", job.kind), ("tokens", f"{made.vocab_size:,}"), ("digest", made.digest)]
    )


@tokenizer.command()
@click.argument("path")
@click.argument("text", required=False)
@click.option("--from-file", type=click.Path(path_type=Path), help="Take the text of a UTF-8 file.")
@click.option("--ids/--tokens", default=True, help="Print the ids, or each with how the vocabulary writes it.")
@of_kind
def encode(path: str, text: str | None, from_file: Path | None, ids: bool, kind: str) -> None:
    """Print the ids of TEXT. Special tokens in it are text like any other."""
    if (text is None) == (from_file is None):
        raise ConfigError("give either TEXT or --from-file=FILE")
    made = _load(path, kind)
    (found,) = made.encode([_read(from_file) if from_file else _unbroken(text or "")])
    if ids:
        layout.say_wrapped(" ".join(map(str, found.tolist())))
    else:
        layout.say_rows([(str(index), repr(made.piece(index))) for index in found.tolist()])


@tokenizer.command()
@click.argument("path")
@click.argument("ids", nargs=-1, required=True)
@of_kind
def decode(path: str, ids: tuple[str, ...], kind: str) -> None:
    """Print the text of IDS, separated by commas or blanks."""
    made = _load(path, kind)
    words = " ".join(ids).replace(",", " ").split()
    if wrong := [word for word in words if not word.isdecimal() or int(word) >= made.vocab_size]:
        raise ConfigError(f"{wrong[0]} is not an id: {path} has those from 0 to {made.vocab_size - 1}")
    say(made.decode([int(word) for word in words]))


@tokenizer.command("export")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the tokenizer in the directory.")
@of_kind
def export_(source: str, destination: Path, force: bool, kind: str) -> None:
    """Copy a tokenizer to another directory.

    There it has its canonical files, a manifest and a README.
    """
    names = export.export(loading.find(source).path, kind, destination, force=force)
    layout.say_rows([("written to", str(destination)), ("files", ", ".join(names))])


def _job(
    corpus: tuple[str, ...],
    *,
    kind: str,
    algorithm: str | None,
    vocab_size: int,
    character_coverage: float | None,
    train_bytes: int,
    seed: int,
) -> training.Job:
    if kind != "sentencepiece" and (algorithm or character_coverage):
        raise ConfigError(f"--algorithm and --character-coverage are of kind sentencepiece, not of {kind}")
    training.trainer_of(kind)
    return training.Job(
        lines=lines.Lines(files=lines.find(corpus)),
        kind=kind,
        recipe=Recipe(vocab_size, algorithm or "unigram", character_coverage or training.CHARACTER_COVERAGE),
        seed=seed,
        train_bytes=train_bytes,
    )


def _load(name_or_path: str, kind: str) -> Tokenizer:
    return loading.load(loading.find(name_or_path).path, kind)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AssetError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error


def _unbroken(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # how Python hands over bytes that are not of the terminal's encoding
        raise ConfigError(f"TEXT is not UTF-8 at character {error.start}; correct it, or use --from-file") from error
    return text


def _facts(one: health.Health) -> Iterator[tuple[str, str]]:
    if one.state == "ill":
        yield "problem", one.problem
    for place in one.checked:
        yield "looked at", f"{place['path']} ({place['rule']}): {'found' if place['found'] else 'not there'}"
    if one.path:
        yield "path", f"{one.path}, by {one.rule}"
        yield "manifest", one.manifest
    for name, sha256 in one.files.items():
        yield "file", f"{name} {sha256}"
    if not one.digest:
        return
    yield "kind", one.kind
    yield "digest", one.digest
    yield "tokens", f"{one.vocab_size:,}, added ones included"
    yield "roles", ", ".join(f"{role} {'none' if index is None else index}" for role, index in one.roles.items())
    yield "special", ", ".join(f"{name} {index}" for name, index in one.special_tokens.items()) or "none"
    yield "round trip", f"loses {', '.join(one.lost)}" if one.lost else "gives back every probe"
