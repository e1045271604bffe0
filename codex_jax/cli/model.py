"""`codex-jax model`: which there are and where, what they are made of, whether their files are whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codex_jax import amounts, dtypes
from codex_jax.cli import layout
from codex_jax.console import say


@click.group(cls=layout.Group)
def model() -> None:
    """List, show, check, download and export models.

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

    _say_facts(model_files.checked(name_or_directory, digest), as_json)


@model.command()
@click.argument("name_or_repository")
@click.option("--revision", default="", help="Commit, 40 hexadecimal digits.  [default: that of the catalogue]")
@click.option("--to", type=click.Path(path_type=Path), help="Directory to make.  [default: where NAME is looked for]")
@click.option("--digest", default="", help="SHA-256 that the weights must have, as import prints it.")
@layout.as_json
def download(name_or_repository: str, revision: str, to: Path | None, digest: str, as_json: bool) -> None:
    """Fetch a model from the Hugging Face hub at one commit, and check it as import does.

    NAME_OR_REPOSITORY is an alias, or owner/name on the hub. Only what is
    read here is fetched, no program and no pickle. HF_TOKEN is sent if it is
    set. No other command for models uses a network.
    """
    from codex_jax.cli import model_download

    tell = (lambda _: None) if as_json else say
    _say_facts(model_download.downloaded(name_or_repository, revision, to, digest, tell), as_json)


class _Dtype(click.Choice):
    """Takes other words for a type, too: fp32, bf16, torch.float16."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name of the type."""
        return super().convert(dtypes.ALIASES.get(value, value), param, ctx)


def _writes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of a command that writes a model."""
    for decorate in reversed(
        (
            click.argument("run_or_checkpoint", type=click.Path(path_type=Path)),
            click.argument("directory", type=click.Path(path_type=Path)),
            click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest without it."),
            click.option(
                "--dtype",
                type=_Dtype(["float32", "bfloat16", "float16"]),
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
@click.option("--adapter", is_flag=True, help="Write the adapters alone, as PEFT loads them.")
def export(run_or_checkpoint: Path, directory: Path, adapter: bool, **options: Any) -> None:
    """Write a trained model as transformers loads it: weights, config.json, tokenizer."""
    from codex_jax.cli import model_files

    if adapter:
        layout.say_rows(model_files.exported_adapter(run_or_checkpoint, directory, **options))
        return
    layout.say_rows(model_files.exported(run_or_checkpoint, directory, merge=False, **options))


@model.command()
@_writes
def merge(run_or_checkpoint: Path, directory: Path, **options: Any) -> None:
    """Write a model with the adapters of a run folded into it, as export does."""
    from codex_jax.cli import model_files

    layout.say_rows(model_files.exported(run_or_checkpoint, directory, merge=True, **options))


def _say_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        layout.say_json(facts)
    else:
        layout.say_rows([(name, _words(value)) for name, value in facts.items()])


def _place(row: dict[str, Any]) -> str:
    return f"{row['path']} ({row['rule']})" if row["path"] else "not here"


def _short(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    if value is None:
        return "none is known here"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
