"""`codex-jax generate`: what a trained model writes after a prompt."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codex_jax import console, overrides
from codex_jax.cli import layout
from codex_jax.errors import AssetError, ConfigError


if TYPE_CHECKING:
    from codex_jax.generation.text import Voice


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("source", metavar="RUN_OR_WEIGHTS", type=click.Path(path_type=Path))
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[--config.key=value ...]")
@click.option("--prompt", "prompts", multiple=True, help="Text to continue; may be given several times.")
@click.option("--prompt-file", help="File with a prompt; - for standard input.")
@click.option("--num-tokens", type=int, help="Most tokens to write.")
@click.option("--temperature", type=float, help="Divides the logits; 0 takes the likeliest token.")
@click.option("--top-k", type=int, help="Among so many likeliest tokens; 0: all.")
@click.option("--top-p", type=float, help="Among the likeliest that have this probability together.")
@click.option("--min-p", type=float, help="Among those so many times as likely as the likeliest.")
@click.option("--repetition-penalty", type=float, help="Above 1: less of what is there already.")
@click.option("--stop", multiple=True, help="Text at which it ends; may be given several times.")
@click.option("--ban", "banned", multiple=True, type=int, help="Id of a token that is never written.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts at a time.")
@click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest where it is not given.")
@click.option("--stream/--no-stream", default=None, help="While it is written.  [default: at a terminal]")
@layout.as_json
def generate(
    source: Path, given: tuple[str, ...], prompts: tuple[str, ...], prompt_file: str | None, **options: Any
) -> None:
    """Continue a prompt with a trained model.

    RUN_OR_WEIGHTS is the directory of a run, or one of weights in Hugging Face's
    form. What is not given is as the run has it in generate.*. Prompt and answer
    pass the safety policy; a prompt that it blocks is refused with exit code 2.
    """
    pairs = overrides.parse(given, ("--prompt", "--num-tokens", "--json"))
    texts = [*prompts, *([_read(prompt_file)] if prompt_file else [])]
    if not texts:
        raise ConfigError("nothing to continue: give --prompt=TEXT, or --prompt-file=FILE")
    step, as_json, stream, batch = (options.pop(name) for name in ("step", "as_json", "stream", "batch"))
    if stream and (as_json or len(texts) > 1):
        raise ConfigError("--stream shows one text: leave out --json, and give one prompt")
    changes = {name: value for name, value in options.items() if value not in (None, ())}
    from codex_jax.cli import opening  # imports jax

    voice = opening.voice(source, step, pairs)
    if stream or (stream is None and sys.stdout.isatty() and not as_json and len(texts) == 1):
        console.say_pieces(voice.stream(texts[0], **changes))
        return
    _say(voice, texts, as_json=as_json, batch=batch, **changes)


def _say(voice: "Voice", texts: list[str], *, as_json: bool, **changes: Any) -> None:
    answers = voice.answers(texts, **changes)
    if as_json:
        layout.say_json([answer._asdict() for answer in answers])
        return
    for answer in answers:
        console.say(answer.text if answer.blocked else answer.prompt + answer.text)


def _read(name: str) -> str:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
        return content.decode()
    except OSError as error:
        raise AssetError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AssetError(f"{name} is not UTF-8 at byte {error.start}; convert it") from error
