"""What a run says of itself when it begins and when it ends: provenance, header, baseline, table of results, report."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from codex_jax import config, digest, rundir, trees
from codex_jax.data.corpus import Corpus
from codex_jax.data.report import Report
from codex_jax.journal import accounts
from codex_jax.journal.recorder import say
from codex_jax.models import build
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.tracking import progress, provenance, report, report_facts, system
from codex_jax.tracking.writer import Writer


def open_run(
    workdir: Path,
    settings: config.Config,
    definition: build.Definition,
    tokenizer: Tokenizer,
    corpus: Corpus,
    fingerprint: Mapping[str, Any],
) -> None:
    """Write provenance.json and the tokenizer, and tell the user what is trained on what."""
    digests = {
        "config": digest.of_json(config.to_dict(settings)),
        "data": digest.of_json(fingerprint),
        "tokenizer": tokenizer.digest,
    }
    rundir.write_json(workdir / "provenance.json", provenance.collect(argv=sys.argv, digests=digests))
    tokenizer.save(workdir / "tokenizer")
    devices = jax.devices()
    model = settings.model
    parameters = trees.num_parameters(definition.abstract)
    say(f"model      {model.name}, {parameters:,} parameters, {model.compute_dtype} products")
    say(f"data       {corpus.source}, {len(corpus.files):,} files, {corpus.num_bytes / 1e6:.1f} MB")
    say(f"tokenizer  {tokenizer.vocab_size:,} tokens, {settings.tokenizer.path or 'trained on these data'}")
    say(f"devices    {len(devices)} x {devices[0].device_kind}, workdir {workdir}")
    if not settings.safety.enabled:
        print("codex_jax: safety.enabled=false: secrets and personal data are trained on as they are", file=sys.stderr)


def begin_run(
    writer: Writer, settings: config.Config, definition: build.Definition, entropy: float, held_out: Report
) -> None:
    """Write the first rows of the ledger: the start, and what a model must beat on the validation data."""
    fields = {
        "parameters": trees.num_parameters(definition.abstract),
        "devices": [device.device_kind for device in jax.devices()],
        "safety_enabled": settings.safety.enabled,
    }
    writer.event("run.started", 0, fields)
    accounts.write_exceptions(writer, 0, "validation", held_out)
    writer.event("data.validation", 0, {**accounts.counts(held_out), "bytes": held_out.bytes})
    writer.scalars(0, "baseline", {"unigram_entropy": entropy})


def resume_run(writer: Writer, step: int, num_steps: int, skipped: Sequence[tuple[int, str]]) -> None:
    """Write down, and say, where the run goes on and which checkpoints were passed over."""
    writer.event("run.resumed", step, {"from_step": step, "skipped": [list(one) for one in skipped]})
    for other, reason in skipped:
        print(f"codex_jax: checkpoint {other} is not used: {reason}", file=sys.stderr)
    say(f"resume     from step {step} of {num_steps}")


def name_leftovers(removed: Sequence[str]) -> None:
    """Say which unfinished saves of a killed process were removed."""
    for name in removed:
        print(f"codex_jax: removed {name}, a save that was never finished", file=sys.stderr)


def close_run(writer: Writer, workdir: Path, step: int) -> None:
    """Write the last event and report.html, and print the table of results."""
    writer.event("run.finished", step, {"status": "finished", "peak_rss_bytes": system.peak_rss_bytes()})
    writer.sync()
    path = report.write_report(workdir)
    facts = report_facts.collect(workdir)
    best = facts.best["metrics"] if facts.best else {}
    last = facts.last
    say("")
    say(
        progress.summary_table(
            [
                ("steps", f"{step:,}"),
                ("tokens", f"{int(last['train/tokens']):,}"),
                ("training loss", f"{last['train/loss']:.4f} nats a token"),
                ("best validation loss", f"{best['loss']:.4f}" if best else "-"),
                ("perplexity", f"{best['perplexity']:.2f}" if best else "-"),
                ("token accuracy", f"{100 * best['token_accuracy']:.1f} %" if best else "-"),
                ("unigram entropy", f"{last['baseline/unigram_entropy']:.4f} (loss without context)"),
                ("time at work", progress.duration(facts.clock.seconds())),
                ("peak memory", f"{system.peak_rss_bytes() / 2**30:.2f} GiB"),
                ("report", str(path)),
            ]
        )
    )
