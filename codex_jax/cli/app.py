"""The entry of `codex-jax`: its nouns, and the end of every command in one message and its exit code."""

import importlib
import sys
from collections.abc import Sequence

import click

from codex_jax import __version__, console, exits
from codex_jax.cli import layout
from codex_jax.errors import ConfigError, Interrupted


# Each is a file of this room with a click group, or a command, of the same name; imported when it is asked for.
NOUNS = {
    "checkpoint": "list, verify, prune and compare checkpoints",
    "classify": "which class texts are of, by a model trained for it",
    "data": "make, verify, split and show what is trained on",
    "embed": "texts to vectors that say how alike they are",
    "evaluate": "how good a run is on all of its held-out documents",
    "generate": "continue a prompt with a trained model",
    "metrics": "list, export and replay what a run has measured",
    "model": "list, show, check, download, export and merge models",
    "run": "show, compare and reproduce runs",
    "safety": "find secrets and personal data, and check the rules",
    "tokenizer": "list, check, show, train, use and export tokenizers",
}


class Nouns(layout.Group):
    """Knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in the order of NOUNS."""
        return list(NOUNS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the group of a noun; None when there is no such noun."""
        if name not in NOUNS:
            return None
        module = importlib.import_module(f"codex_jax.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the nouns with their meaning, without importing any."""
        with formatter.section("Nouns"):
            formatter.write_dl(list(NOUNS.items()))


@click.group(
    cls=Nouns,
    epilog="Exit codes: 0 done, 1 found, 2 wrong usage, 3 asset missing or damaged, 4 stopped, 75 interrupted.",
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")
@click.version_option(__version__, prog_name="codex-jax")
def app() -> None:
    """Look at, check and make what training reads and writes.

    `python -m codex_jax.main` trains.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console.prepare()
    return exits.guarded(lambda: _run(arguments), debug="--debug" in arguments)


def _run(arguments: list[str]) -> None:
    try:
        app(arguments, prog_name="codex-jax", standalone_mode=False)
    except click.ClickException as error:
        said = error.format_message().rstrip(".")
        raise ConfigError(f"{said}; --help after a command says what it takes") from error
    except click.Abort:
        raise Interrupted("stopped by a signal") from None


if __name__ == "__main__":
    sys.exit(main())
