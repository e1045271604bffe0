"""Several runs on one page: their curves in one chart, the settings that differ, and the results side by side."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import changes, rundir, schema
from codex_jax.errors import ConfigError
from codex_jax.tracking import charts, progress, report, report_charts, report_facts, report_sections
from codex_jax.tracking.charts import Series
from codex_jax.tracking.report_facts import Facts


MOST = 8  # as many colours as can be told apart
_CURVES = (
    ("validation/loss", "Validation loss", "nats"),
    ("train/learning_rate", "Learning rate", ""),
    ("train/grad_norm", "Gradient norm", "before clipping"),
    ("speed/tokens_per_sec", "Speed", "tokens a second"),
)
# Of provenance.json what is in every run its own, or follows from another part.
_ASIDE = ("argv", "digests.config", "git.diff.file", "git.diff.bytes", "git.diff.cut", "git.diff.redacted")
_HEX = re.compile("[0-9a-f]{32,}")


class Side(NamedTuple):
    """One run of several."""

    name: str
    look: str
    facts: Facts
    settings: Mapping[str, Any]
    record: Mapping[str, Any]


def write(runs: Sequence[Path], path: Path) -> Path:
    """Write a page about several runs and return its path.

    Raises ConfigError for more than it has colours for, AssetError when one is no run, or damaged.
    """
    if len(runs) > MOST:
        raise ConfigError(f"{len(runs)} runs are too many to tell apart on one page: at most {MOST}")
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError("a run is named twice: leave it out once")
    short = [run.resolve().name for run in runs]
    names = short if len(set(short)) == len(short) else list(map(str, runs))
    sides = [_side(run, name, f"run-{number}") for number, (run, name) in enumerate(zip(runs, names, strict=True))]
    body = [_header(sides), _runs(sides), _curves(sides), _results(sides), _settings(sides), _digests(sides)]
    return report.write_page(path, ", ".join(names), body)


def _side(run: Path, name: str, look: str) -> Side:
    settings = dict(schema.flatten(rundir.read_settings(run)))
    return Side(name, look, report_facts.collect(run), settings, rundir.read_record(run / "provenance.json"))


def _header(sides: Sequence[Side]) -> str:
    names = ", ".join(escape(side.name) for side in sides)
    return f"<header><p class=over>codex_jax, {len(sides)} runs side by side</p><h1>{names}</h1></header>"


def _runs(sides: Sequence[Side]) -> str:
    head = ("run", "ended", "best validation loss", "at step", "parameters", "time at work", "started")
    rows = []
    for side in sides:
        facts, best = side.facts, side.facts.best
        rows.append(
            (
                side.name,
                facts.status,
                f"{best['metrics']['loss']:.4f}" if best else "",
                f"{best['step']:,}" if best else "",
                progress.count((facts.start or {}).get("parameters") or 0),
                progress.duration(facts.clock.seconds()),
                report_facts.moment(facts.started) if facts.started is not None else "",
            )
        )
    return report_sections.table(head, rows)


def _curves(sides: Sequence[Side]) -> str:
    loss = [line for side in sides for line in _lines(side, "train/loss")]
    drawn = report_charts.wide("Training loss", "nats", loss)
    for name, title, unit in _CURVES:
        lines = [line for side in sides for line in _lines(side, name)]
        if any(line.points for line in lines):
            drawn += report_charts.small(title, unit, lines, from_zero=name != "validation/loss")
    return report_sections.section("Curves", report_charts.choice() + f'<div class="charts side">{drawn}</div>')


def _lines(side: Side, name: str) -> list[Series]:
    return report_charts.lines(name, side.facts.curves[name], side.look, side.name)


def _results(sides: Sequence[Side]) -> str:
    names = dict.fromkeys(name for side in sides for name in side.facts.last if not name.startswith(report_facts.MANY))
    rows = [(name, *(_number(side.facts.last.get(name)) for side in sides)) for name in names]
    return report_sections.section("Latest values", report_sections.table(("metric", *_names(sides)), rows))


def _settings(sides: Sequence[Side]) -> str:
    names = sorted({name for side in sides for name in side.settings})
    unlike = [name for name in names if len({str(side.settings.get(name)) for side in sides}) > 1]
    # What decides numbers comes first: it may be why the curves part.
    unlike.sort(key=lambda name: not changes.decides(name))
    rows = [
        (
            name if changes.decides(name) else f"{name} (decides no number)",
            *("" if name not in side.settings else _text(side.settings[name]) for side in sides),
        )
        for name in unlike
    ]
    same = f"<p class=muted>{len(names) - len(unlike):,} other settings are the same in all.</p>"
    body = report_sections.table(("setting", *_names(sides)), rows) if rows else ""
    return report_sections.section("Settings that differ", body + same)


def _digests(sides: Sequence[Side]) -> str:
    flat = [dict(schema.flatten(side.record)) for side in sides]
    names = dict.fromkeys(name for one in flat for name in one if not name.startswith(_ASIDE))
    rows = [
        (name, *(_text(one.get(name)) for one in flat))
        for name in names
        if len({str(one.get(name)) for one in flat}) > 1
    ]
    if not rows:
        return report_sections.section("Provenance", "<p class=empty>The same code, versions, machine and data.</p>")
    return report_sections.section("Provenance that differs", report_sections.table(("what", *_names(sides)), rows))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:12] if _HEX.fullmatch(value) else value
    return f"{value:.6g}" if isinstance(value, float) else schema.shown(value)


def _names(sides: Sequence[Side]) -> list[str]:
    return [side.name for side in sides]


def _number(value: float | None) -> str:
    return "" if value is None else charts.number(value) if abs(value) >= 1000 else f"{value:.4g}"
