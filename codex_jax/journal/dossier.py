"""What a run says of itself when it begins and when it ends: provenance, header, baseline, table of results, report."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from codex_jax import amounts, changes, config, exits
from codex_jax.changes import Change
from codex_jax.console import say, warn
from codex_jax.data.mixture import Mixture
from codex_jax.data.report import Report
from codex_jax.errors import CodexError, Interrupted
from codex_jax.journal import accounts, surroundings
from codex_jax.journal.recorder import Recorder
from codex_jax.models import receipt
from codex_jax.safety import bypass
from codex_jax.safety.gate import Gate, Verdict
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.tracking import figure, ledger, progress, report, report_facts, system
from codex_jax.tracking.sampler import Sampler
from codex_jax.tracking.writer import Writer
from codex_jax.training import subtree
from codex_jax.training.program import Program


def open_run(
    workdir: Path,
    settings: config.Config,
    guard: Gate,
    program: Program,
    tokenizer: Tokenizer,
    mixture: Mixture,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Write provenance.json with what goes with it, and the tokenizer, and tell the user what is trained on what.

    `digests` are those of settings, data, tokenizer, policy and, where there are any, weights. Returns what the first
    event of each process carries, since provenance.json tells of the latest one only.
    """
    record = surroundings.write(workdir, settings, guard, digests)
    tokenizer.save(workdir / "tokenizer")
    devices = jax.devices()
    model = settings.model
    parameters = program.definition.num_parameters
    trained = subtree.num_trained(settings.train, program.target.parameters)
    family = program.definition.family.name
    say(f"model      {model.name or family}, {parameters:,} parameters, {model.compute_dtype} products")
    if trained < parameters:
        percent = 100 * trained / parameters
        say(f"trained    {trained:,} of them ({percent:.2g} %), {parameters - trained:,} are frozen")
    if "weights" in digests:
        say(f"weights    sha256 {digests['weights'][:12]}, {model.weights}")
    for part in mixture:
        share = f", weight {float(part.weight):g}" if part.weight else ""
        name = f"{part.name}: " if settings.data.mix else ""
        size = f"{amounts.counted(len(part.corpus.files), 'file')}, {amounts.size(part.corpus.num_bytes)}"
        say(f"data       {name}{part.corpus.source}, {size}{share}")
    say(f"devices    {len(devices)} x {devices[0].device_kind}, workdir {workdir}")
    bypass.announce(guard.bypass)
    git = record["git"] or {}
    return {
        "config_digest": digests["config"],
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "diff": (git.get("diff") or {}).get("sha256"),
        "code": record["code"]["sha256"],
        "hardware": record["hardware"]["fingerprint"],
        "versions": record["versions"],
        "devices": [device.device_kind for device in devices],
        "model": model.name or family,
        "parameters": parameters,
        "trained_parameters": trained,
        "safety": guard.bypass._asdict() if guard.bypass else {"enabled": True, "bypass": False},
        "tokenizer": _tokenizer(settings.tokenizer, tokenizer),
        **({"weights": _weights(model.weights, digests["weights"])} if "weights" in digests else {}),
    }


def _weights(path: str, sha256: str) -> dict[str, str]:
    return {"path": path, "digest": sha256, **receipt.published(Path(path), sha256)}


def name_tokenizer(settings: config.Tokenizer, tokenizer: Tokenizer) -> None:
    """Tell the user which tokenizer it is, and by which rule."""
    facts = _tokenizer(settings, tokenizer)
    place = f": {facts['path']}" if facts["path"] else ""
    sha256 = facts["digest"][:12]
    say(f"tokenizer  {facts['kind']}, {facts['vocab_size']:,} tokens, sha256 {sha256}, {facts['rule']}{place}")


def _tokenizer(settings: config.Tokenizer, tokenizer: Tokenizer) -> dict[str, Any]:
    found = loading.origin(settings)
    return {
        "kind": found.kind,
        "rule": found.rule,
        "path": str(found.path or ""),
        "digest": tokenizer.digest,
        "vocab_size": tokenizer.vocab_size,
    }


def begin_run(writer: Writer, made_with: Mapping[str, Any], entropy: float, held_out: Report, prompt: Verdict) -> None:
    """Write the first rows of the ledger: the start, and what a model must beat on the validation data."""
    writer.event("run.started", 0, made_with)
    _record_bypass(writer, made_with, 0)
    accounts.write_verdict(writer, 0, "prompt", prompt)
    accounts.write_exceptions(writer, 0, "validation", held_out)
    writer.event("data.validation", 0, {**accounts.counts(held_out), "bytes": held_out.bytes})
    writer.scalars(0, "baseline", {"unigram_entropy": entropy})


def resume_run(
    writer: Writer,
    made_with: Mapping[str, Any],
    saved: Mapping[str, Any],
    step: int,
    skipped: Sequence[tuple[int, str]],
    recorder: Recorder,
    changed: Mapping[str, Change],
) -> None:
    """Write down, and say, where the run goes on, whether to the bit, what has changed and what was passed over.

    `saved` is the meta of the checkpoint, `skipped` are newer ones, which are damaged.
    """
    exact = _is_exact(saved)
    facts = {"from_step": step, "skipped": [list(one) for one in skipped], "bit_exact": exact}
    writer.event("run.resumed", step, {**facts, **made_with})
    if exact is False:
        warn(
            f"not bit-exact from here on: step {step} was saved on {_shown(saved['machines'])}, and this is "
            f"{_shown(machines())}, which adds up in another order; parallel.deterministic_reduction, set from the "
            "start, keeps to one"
        )
    _record_bypass(writer, made_with, step)
    for other, reason in skipped:
        warn(f"checkpoint {other} is not used: {reason}")
    if changed:
        writer.event("run.changed", step, {"changes": {name: one._asdict() for name, one in changed.items()}})
        warn("\n".join(["checkpoint.allow_change lets this run go on with", *changes.lines(changed)]))
    if recorder.over:
        say(f"finished   at step {step} already: {recorder.over}")
    else:
        say(f"resume     from step {step} of {recorder.num_steps}")


def machines() -> dict[str, Any]:
    """Return on what the run is at work, as a checkpoint remembers it."""
    return {"devices": jax.device_count(), "kind": jax.devices()[0].device_kind, "processes": jax.process_count()}


def _is_exact(saved: Mapping[str, Any]) -> bool | None:
    """Return whether the run goes on as on the machines it was saved on; None: the checkpoint does not say."""
    before, now = saved.get("machines"), machines()
    if before is None:
        return None
    one_order = saved["settings"]["parallel"].get("deterministic_reduction", 0) > 0
    return bool(before["kind"] == now["kind"] if one_order else before == now)


def _shown(found: Mapping[str, Any]) -> str:
    processes = "one process" if found["processes"] == 1 else f"{found['processes']} processes"
    return f"{found['devices']} x {found['kind']} in {processes}"


def _record_bypass(writer: Writer, made_with: Mapping[str, Any], step: int) -> None:
    """Write down that texts are let through: a process each, since each may have another reason."""
    if "reason" in made_with["safety"]:
        writer.event(ledger.BYPASS, step, made_with["safety"])


def hand_over(writer: Writer, workdir: Path, step: int) -> None:
    """Let the copies have what tells how the run was made."""
    for name in ("config.json", "provenance.json", surroundings.PACKAGES, surroundings.DIFF):
        if (workdir / name).exists():
            writer.artifact(step, name, workdir / name)


def name_sampler(sampler: Sampler) -> dict[str, Any]:
    """Return how the machine is looked at, and say it when its GPUs are not."""
    if sampler.note and jax.devices()[0].platform == "gpu":
        warn(f"no figures of the GPUs: {sampler.note}")
    return sampler.status()


def name_leftovers(removed: Sequence[str]) -> None:
    """Say which unfinished saves and deletions of a killed process were removed."""
    for name in removed:
        warn(f"removed {name}, which a process that was killed left behind")


@contextlib.contextmanager
def ending(writer: Writer, workdir: Path, recorder: Recorder, sampler: Sampler) -> Iterator[None]:
    """When the run ends, in whatever way but a kill, write that down with report.html; print the results at the end."""
    was_over = bool(recorder.over)
    try:
        yield
    except Exception as error:
        status = "interrupted" if isinstance(error, Interrupted) else "stopped"
        with contextlib.suppress(Exception):  # a full disk, say: the first failure is the one to report
            spent = recorder.spent(sampler.joules)
            _end(writer, workdir, recorder.step, {"status": status, "reason": _reason(error), **spent})
        raise
    reason = {"reason": recorder.over} if recorder.step < recorder.num_steps else {}
    spent = recorder.spent(sampler.joules)
    facts, path = _end(writer, workdir, recorder.step, {"status": "finished", **reason, **spent})
    if reason and not was_over:  # else `resume_run` has said it
        say(f"finished   at step {recorder.step}: {recorder.over}")
    say("")
    table = [*_results(facts, recorder.step), *_energy(spent), ("report", str(path))]
    say(progress.summary_table(table))


def _reason(error: Exception) -> str:
    """Return what the user is told; of a bug its type and the beginning of what it says."""
    return str(exits.readable(error) or f"{type(error).__name__}: {str(error)[:300]}")


def end_hanging(writer: Writer, recorder: Recorder, reason: str) -> None:
    """Write down why the process ends from outside of what hangs; there is no time for a report."""
    writer.event("run.finished", recorder.step, {"status": "stopped", "reason": reason})
    writer.sync()


def _end(writer: Writer, workdir: Path, step: int, fields: Mapping[str, Any]) -> tuple[report_facts.Facts, Path]:
    writer.event("run.finished", step, {**fields, "peak_rss_bytes": system.peak_rss_bytes()})
    writer.sync()
    facts = report_facts.collect(workdir)
    if writer.shows_figures and step not in facts.figures:  # it is there when a finished run is started again
        _draw(writer, workdir, facts, step)
    path = report.write_report(workdir, facts)
    writer.report(step)
    return facts, path


def _draw(writer: Writer, workdir: Path, facts: report_facts.Facts, step: int) -> None:
    try:
        if drawn := figure.draw_losses(workdir, facts, step):
            writer.figure(step, "figure/loss", drawn)
    except (CodexError, OSError) as error:  # a run does not fail for a picture
        warn(f"the curve of the loss is not drawn: {error}")


def _results(facts: report_facts.Facts, step: int) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table; what a ledger does not hold, because a user moved it away, is left out."""
    last = facts.last
    yield "steps", f"{step:,}"
    for unit in ("tokens", "texts"):
        if f"train/{unit}" in last:
            yield unit, f"{int(last[f'train/{unit}']):,}"
    if last_row := facts.curves["train/loss"].last:
        yield "training loss", f"{last_row[1]:.4f} nats, of step {last_row[0]:,} alone"
    if facts.best:
        best = facts.best["metrics"]
        yield "best validation loss", f"{best['loss']:.4f}"
        if "perplexity" in best:
            yield "perplexity", progress.perplexity(best["perplexity"])
        for name in ("token_accuracy", "accuracy"):
            if name in best:
                yield name.replace("_", " "), f"{100 * best[name]:.1f} %"
    if "baseline/unigram_entropy" in last:
        yield "unigram entropy", f"{last['baseline/unigram_entropy']:.4f} (loss without context)"
    yield "time at work", progress.duration(facts.clock.seconds())
    yield "peak memory", f"{facts.peak_rss_bytes / 2**30:.2f} GiB"


def _energy(spent: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the row of what the GPUs took, if that was measured."""
    if "energy_joules" in spent:
        each = [
            f", {progress.count(joules)}J {name.removeprefix('joules_').replace('_', ' ')}"
            for name, joules in spent.items()
            if name != "energy_joules"
        ]
        yield "energy", f"{progress.count(spent['energy_joules'])}J{''.join(each)}"
