"""The parts of report.html, each from plain values to HTML with everything escaped."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from codex_jax import schema
from codex_jax.tracking import progress
from codex_jax.tracking.report_facts import Facts, moment


SAMPLE_CHARS = 4000
# Documents read, and what became of them, whatever order the ledger has them in.
COUNTED = ("read", "trained", "held_out", "filtered", "quarantined", "blocked", "duplicates")
WHOLE = ("time", "event")
NAMES = ("setting", "what", "metric")


def header(facts: Facts, settings: Mapping[str, Any]) -> str:
    """Return the title with the run's name, model, start and status."""
    model = settings.get("model", {})
    facts_line = [
        str(model.get("name") or (facts.start or {}).get("model") or ""),
        f"{model['num_layers']} layers, width {model['width']}" if {"num_layers", "width"} <= model.keys() else "",
        f"started {moment(facts.started)}" if facts.started is not None else "",
    ]
    line = " · ".join(escape(part) for part in facts_line if part)
    state = "good" if facts.status == "finished" else "open"
    return (
        f"<header><p class=over>codex_jax run</p><h1>{escape(facts.run_id or 'no rows yet')} "
        f'<span class="status {state}">{escape(facts.status)}</span></h1><p class=muted>{line}</p></header>'
    )


def headlines(facts: Facts) -> str:
    """Return the row of numbers that say how the run went."""
    best = facts.best["metrics"] if facts.best else {}
    at = f"step {facts.best['step']:,}" if facts.best else ""
    train = facts.curves["train/loss"].last
    entropy = facts.last.get("baseline/unigram_entropy")
    accuracy = best.get("token_accuracy", best.get("accuracy"))
    parameters = facts.start.get("parameters") if facts.start else None
    cards = [
        ("Training loss", train and f"{train[1]:.3f}", f"of step {train[0]:,} alone" if train else ""),
        ("Best validation loss", _fixed(best.get("loss")), at),
        ("Perplexity", best.get("perplexity") and progress.perplexity(best["perplexity"]), at),
        (
            "Token accuracy" if "token_accuracy" in best else "Accuracy",
            None if accuracy is None else f"{100 * accuracy:.1f} %",
            at,
        ),
        ("Unigram entropy", _fixed(entropy), "loss of guessing by frequency"),
        ("Parameters", _count(parameters), ""),
        ("Tokens seen", _count(facts.last.get("train/tokens")), ""),
        ("Texts seen", _count(facts.last.get("train/texts")), ""),
        ("Time at work", progress.duration(facts.clock.seconds()), ""),
    ]
    items = [
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd><dd class=note>{escape(note)}</dd></div>"
        for name, value, note in cards
        if value
    ]
    return f"<dl class=cards>{''.join(items)}</dl>"


def samples(facts: Facts) -> str:
    """Return generated texts, the latest first."""
    parts = []
    for row in reversed(facts.samples.items()):
        text, name = str(row.get("text", "")), str(row.get("name", ""))
        cut = "\n[cut here]" if len(text) > SAMPLE_CHARS else ""
        parts.append(
            f"<article><h3>step {row['step']:,} <span class=muted>{escape(name)}</span></h3>"
            f"<pre>{escape(text[:SAMPLE_CHARS] + cut)}</pre></article>"
        )
    shown = f"{len(parts)} of {facts.samples.count:,} samples" if facts.samples.count > len(parts) else ""
    return section("Samples", f"<div class=samples>{''.join(parts)}</div><p class=muted>{shown}</p>") if parts else ""


def data(facts: Facts) -> str:
    """Return what became of the documents, and what the safety rules found in them."""
    report = facts.data or {}
    found = report.get("safety") or dict(facts.safety)
    counts = [(name.replace("_", " "), report[name]) for name in COUNTED if name in report]
    documents = table(("documents", "count"), counts) if counts else "<p class=empty>No data report yet.</p>"
    common = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rules = [(*name.split("/", 1), count) for name, count in common]
    safety = table(("safety", "rule", "count"), rules) if rules else "<p class=empty>No safety rule found anything.</p>"
    body = f"<div class=columns><div>{documents}</div><div>{safety}</div></div>"
    if facts.quarantined:
        names = ("split", "file", "line", "offset", "reason")
        rows = [tuple("" if row.get(name) is None else row[name] for name in names) for row in facts.quarantined]
        more = facts.num_quarantined - len(rows)
        body += f"<h3>Quarantined</h3>{table(names, rows)}" + (f"<p class=muted>and {more:,} more</p>" if more else "")
    return section("Data and safety", body)


def configuration(settings: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    """Return every setting with where its value came from, those that differ from their default first."""
    rows = [(name, _json(value), str(origin.get(name, ""))) for name, value in schema.flatten(settings)]
    changed = [row for row in rows if row[2] != "default"]
    names = ("setting", "value", "from")
    body = table(names, changed) if changed else "<p class=empty>Everything is at its default.</p>"
    rest = [row for row in rows if row[2] == "default"]
    if rest:
        body += f"<details><summary>{len(rest)} settings at their default</summary>{table(names, rest)}</details>"
    return section("Configuration", body)


def provenance(record: Mapping[str, Any]) -> str:
    """Return with what the run was made."""
    rows = [(name, value if isinstance(value, str) else _json(value)) for name, value in schema.flatten(record)]
    return section("Provenance", table(("what", "value"), rows)) if rows else ""


def safe(text: str) -> str:
    """Return a text as HTML."""
    return escape(text)


def section(title: str, body: str) -> str:
    """Return a part of the page; `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of plain values; numbers are aligned to the right, and the columns of WHOLE are not broken."""
    rows = list(rows)
    first = rows[0] if rows else [""] * len(names)
    looks = [" class=number" if _is_number(value) else "" for value in first]
    head = "".join(f"<th{look}>{escape(name)}</th>" for name, look in zip(names, looks, strict=True))
    cells = ("".join(map(_cell, names, row)) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(name: str, value: Any) -> str:
    if _is_number(value):
        return f"<td class=number>{value:,}</td>"
    look = " class=whole" if name in WHOLE else ""
    text = escape(value if isinstance(value, str) else _json(value))
    return f"<td{look}>{_breakable(text) if name in NAMES else text}</td>"


def _breakable(name: str) -> str:
    """Return the name of a setting with places where a narrow screen may break it."""
    return re.sub(r"([._/])", r"\1<wbr>", name)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _fixed(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _count(value: Any) -> str | None:
    return progress.count(value) if _is_number(value) else None
