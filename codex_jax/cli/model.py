"""`codex-jax model`: which there are and where, what they are made of, whether their files are whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codex_jax import amounts
from codex_jax.cli import layout
from codex_jax.console import say


@click.group(cls=layout.Group)
def model() -> None:
    """List, show, check and export models.

    Where a command takes NAME, it is an alias of the catalogue, see list.
    """


@model.command("list")
@layout.as_json
def list_(as_json: bool) -> None:
    """List the models of the catalogue, and which of them are on this machine, by which rule."""
    from codex_jax.cli import model_facts  # imports jax

    rows = model_facts.listed()
    if as_json:
        layout.say_json(rows)
        return
    head = ("ALIAS", "FAMILY", "PARAMETERS", "LICENCE", "FILES")
    cells = [(row["alias"], row["family"], _short(row["parameters"]), row["licence"], _place(row)) for row in rows]
    layout.say_rows([head, *cells])


@model.command()
@click.argument("name_or_directory")
@layout.as_json
def show(name_or_directory: str, as_json: bool) -> None:
    """Show the architecture of a model, and the memory it takes."""
    from codex_jax.cli import model_facts

    facts = model_facts.shown(name_or_directory)
    if as_json:
        layout.say_json(facts)
        return
    memory = {name: amounts.size(size) for name, size in facts.pop("memory_bytes").items()}
    for name, value in facts.items():
        if not isinstance(value, dict) and value != "":
            layout.say_rows([(name.ljust(16), _words(value))])
    for title, table in (("architecture", facts["architecture"]), ("memory", memory)):
        say(f"{title}:")
        layout.say_rows([(name, _words(value)) for name, value in table.items()], indent="  ")


@model.command("import")
@click.argument("name_or_directory")
@click.option("--digest", default="", help="SHA-256 that the weights must have, as this command prints it.")
@layout.as_json
def import_(name_or_directory: str, digest: str, as_json: bool) -> None:
    """Check the files of a model: what they hold fits its config.json, and every byte can be read.

    Nothing is copied or fetched: training takes the directory as it is, in
    model.weights.
    """
    from codex_jax.cli import model_files

    facts = model_files.checked(name_or_directory, digest)
    if as_json:
        layout.say_json(facts)
    else:
        layout.say_rows([(name, _words(value)) for name, value in facts.items()])


def _writes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a command that writes a model."""
    for decorate in reversed(
        (
            click.argument("run_or_checkpoint", type=click.Path(path_type=Path)),
            click.argument("directory", type=click.Path(path_type=Path)),
            click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest without it."),
            click.option(
                "--dtype",
                type=click.Choice(["float32", "bfloat16", "float16"]),
                default="float32",
                show_default=True,
                help="What the values are kept as.",
            ),
            click.option("--shard-bytes", type=click.IntRange(min=1), help="A file's size at most.  [default: 50 GB]"),
            click.option("--flax", is_flag=True, help="Write flax_model.msgpack in place of safetensors."),
            click.option("--force", is_flag=True, help="Replace the export in the directory."),
        )
    ):
        command = decorate(command)
    return command


@model.command()
@_writes
def export(run_or_checkpoint: Path, directory: Path, **options: Any) -> None:
    """Write a trained model as transformers loads it: weights, config.json, tokenizer."""
    from codex_jax.cli import model_files

    layout.say_rows(model_files.exported(run_or_checkpoint, directory, merge=False, **options))


@model.command()
@_writes
def merge(run_or_checkpoint: Path, directory: Path, **options: Any) -> None:
    """Write a model with the adapters of a run folded into it, as export does."""
    from codex_jax.cli import model_files

    layout.say_rows(model_files.exported(run_or_checkpoint, directory, merge=True, **options))


def _place(row: dict[str, Any]) -> str:
    return f"{row['path']} ({row['rule']})" if row["path"] else "not here"


def _short(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
