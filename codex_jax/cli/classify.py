"""`codex-jax classify`: texts to classes, by an encoder that was trained for it."""

from pathlib import Path

import click

from codex_jax.cli import given_texts, layout


@click.command()
@given_texts.taken
def classify(
    source: Path,
    texts: tuple[str, ...],
    lines: Path | None,
    max_length: int,
    policy: str,
    step: int | None,
    as_json: bool,
) -> None:
    """Print the likeliest class of each text, or with --json all.

    RUN_OR_WEIGHTS is the directory of a run that learnt classes, or one with an
    encoder's weights, a head for classes, config.json and tokenizer, as codex-jax
    model export writes it. What the safety policy redacts is redacted before; a
    text that it blocks ends the command.
    """
    given = given_texts.allowed(texts, lines, policy)
    from codex_jax.cli import opening  # imports jax
    from codex_jax.encoders import classifying

    classifier = opening.classifier(source, step, max_length)
    found = classifier(given)
    best = [classifying.likeliest(one) for one in found]
    if as_json:
        rows = [
            {"text": text, "label": label, "probabilities": one}
            for text, label, one in zip(given, best, found, strict=True)
        ]
        layout.say_json({"model": str(source), "labels": list(classifier.labels), "texts": rows})
        return
    layout.say_rows(
        [
            (label, f"{one[label]:.4f}", given_texts.short(text))
            for text, label, one in zip(given, best, found, strict=True)
        ]
    )
