"""`codex-jax embed`: texts to vectors, by an encoder in a directory or one that a run has trained."""

from pathlib import Path

import click

from codex_jax import amounts, config, console
from codex_jax.cli import layout
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import gate


_SHOWN_CHARS = 56


@click.command()
@click.argument("source", metavar="RUN_OR_WEIGHTS", type=click.Path(path_type=Path))
@click.option("--text", "texts", multiple=True, help="A text; may be given several times.")
@click.option("--lines", type=click.Path(path_type=Path), help="A file with a text in each line.")
@click.option("--max-length", type=click.IntRange(min=0), default=0, help="Cut texts at so many tokens.")
@click.option("--policy", default="", help="File of safety rules in place of those of the package.")
@click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest where it is not given.")
@layout.as_json
def embed(
    source: Path,
    texts: tuple[str, ...],
    lines: Path | None,
    max_length: int,
    policy: str,
    step: int | None,
    as_json: bool,
) -> None:
    """Print how alike texts are, or with --json their vectors.

    RUN_OR_WEIGHTS is the directory of a run of an encoder, one with an encoder's
    weights, config.json and tokenizer, or a name of the catalogue, such as
    all-minilm-l6-v2. What the safety policy redacts is redacted before; a text
    that it blocks ends the command.
    """
    given = [_allowed(text, policy) for text in [*texts, *(_read(lines) if lines else [])]]
    if not given:
        raise ConfigError("there is no text: give --text, or a file with --lines")
    from codex_jax.cli import opening  # imports jax

    vectors = opening.embedder(source, step, max_length)(given)
    if as_json:
        rows = [{"text": text, "vector": vector} for text, vector in zip(given, vectors.tolist(), strict=True)]
        layout.say_json({"model": str(source), "width": vectors.shape[1], "texts": rows})
        return
    console.say(f"{amounts.counted(len(given), 'text')}, {vectors.shape[1]:,} numbers each; cosine with the first:")
    cosines = vectors @ vectors[0]
    layout.say_rows([(f"{cosine:.4f}", _short(text)) for cosine, text in zip(cosines, given, strict=True)], "  ")


def _allowed(text: str, policy: str) -> str:
    verdict = gate.of(config.Safety(policy=policy)).examine(text, "prompt")
    if verdict.blocked:
        raise ConfigError(f"a text is blocked by the safety policy ({', '.join(verdict.blocked)}); leave it out")
    return verdict.text


def _read(lines: Path) -> list[str]:
    try:
        return [line for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise AssetError(f"--lines={lines} cannot be read: {error}") from error


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN_CHARS else plain[: _SHOWN_CHARS - 4] + " ..."
