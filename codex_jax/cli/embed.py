"""`codex-jax embed`: texts to vectors, by an encoder in a directory or one that a run has trained."""

from pathlib import Path

import click

from codex_jax import amounts, console
from codex_jax.cli import given_texts, layout


@click.command()
@given_texts.taken
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
    given = given_texts.allowed(texts, lines, policy)
    from codex_jax.cli import opening  # imports jax

    vectors = opening.embedder(source, step, max_length)(given)
    if as_json:
        rows = [{"text": text, "vector": vector} for text, vector in zip(given, vectors.tolist(), strict=True)]
        layout.say_json({"model": str(source), "width": vectors.shape[1], "texts": rows})
        return
    console.say(f"{amounts.counted(len(given), 'text')}, {vectors.shape[1]:,} numbers each; cosine with the first:")
    cosines = vectors @ vectors[0]
    rows_of_two = [(f"{cosine:.4f}", given_texts.short(text)) for cosine, text in zip(cosines, given, strict=True)]
    layout.say_rows(rows_of_two, "  ")
