"""`codex-jax evaluate`: how good a checkpoint of a run, or a directory of weights, is on held-out documents."""

import math
from pathlib import Path

import click

from codex_jax import amounts, console, overrides
from codex_jax.cli import layout
from codex_jax.tracking import progress


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("run", metavar="RUN_OR_WEIGHTS", type=click.Path(path_type=Path))
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="[--config.key=value ...]")
@click.option("--split", type=click.Choice(("validation", "test")), default="validation", show_default=True)
@click.option("--step", type=click.IntRange(min=0), help="Of the checkpoint; the newest where it is not given.")
@layout.as_json
def evaluate(run: Path, given: tuple[str, ...], split: str, step: int | None, as_json: bool) -> None:
    """Evaluate a checkpoint, or published weights, on a held-out split.

    RUN_OR_WEIGHTS is the directory of a run, one of weights in Hugging Face's
    form, or a name of the catalogue. Every document of the split counts, not
    just eval.num_batches. Exit code 3 when checkpoint, tokenizer or data are not
    what the checkpoint says. --config.key=value may say where data lie now
    (data.paths), or which devices to use (parallel); of weights also which data
    are meant, and quantization.mode.
    """
    pairs = overrides.parse(given, ("--split", "--step", "--json"))
    from codex_jax.cli import evaluation  # imports jax

    found = evaluation.evaluate(run, split, step, pairs)
    if as_json:
        # JSON has no infinity.
        kept = {
            name: None if isinstance(value, float) and math.isinf(value) else value for name, value in found.items()
        }
        layout.say_json(kept)
        return
    documents = amounts.counted(found["documents"], "document")
    of_step = "" if found["step"] is None else f", step {found['step']:,}"
    console.say(f"run         {run}{of_step}")
    console.say(f"split       {split}, {documents}, {found['quarantined']:,} rows quarantined")
    if "texts" in found:
        console.say(f"loss        {found['loss']:.4f} nats a text")
        console.say(f"accuracy    {100 * found['accuracy']:.1f} % of texts")
        return
    console.say(f"tokens      {found['tokens']:,}")
    console.say(f"loss        {found['loss']:.4f} nats a token")
    console.say(f"perplexity  {progress.perplexity(found['perplexity'])}")
    console.say(f"accuracy    {100 * found['token_accuracy']:.1f} % of tokens")
