"""The parts of report.html that are drawn: curves of the run with smoothing to choose, evaluations, the machine."""

from collections.abc import Sequence

from codex_jax.tracking import charts, progress, report_sections
from codex_jax.tracking.charts import Series
from codex_jax.tracking.curves import Curve, Point
from codex_jax.tracking.report_facts import Facts


# By their names how much of a curve to each side a point is the mean of. The style sheet shows the one that is chosen.
SMOOTHINGS = {"none": 0.0, "light": 0.01, "medium": 0.03, "strong": 0.1}
CHOSEN = "medium"
SMALL = (
    ("train/learning_rate", "Learning rate", ""),
    ("train/grad_norm", "Gradient norm", "before clipping"),
    ("speed/tokens_per_sec", "Speed", "tokens a second"),
    ("train/param_norm", "Parameter norm", ""),
    ("speed/mfu", "MFU", "share of the peak in use"),
)
EXACT = ("train/learning_rate", "validation/loss")  # smoothing would only bend them
ALWAYS = 3  # of them are there without a value, too
# Endings of names, what they are shown as, and what one unit of that is.
_UNITS = {
    "bytes": ("GB", 1e9),
    "percent": ("%", 1.0),
    "celsius": ("\N{DEGREE SIGN}C", 1.0),
    "watts": ("W", 1.0),
    "joules": ("kJ", 1e3),
}


def curves(facts: Facts) -> str:
    """Return the charts: loss over the whole width, and the smaller ones below it."""
    train, held_out = facts.curves["train/loss"], facts.curves["validation/loss"].points()
    raw = train.points()
    entropy = facts.last.get("baseline/unigram_entropy")
    steps = [step for step, _ in raw + held_out]
    baseline = [(min(steps), entropy), (max(steps), entropy)] if steps and entropy is not None else []
    loss = [
        Series("training, every row", "raw", raw),
        *smoothed("training, smoothed", "train", train),
        Series("validation", "validation", held_out, dots=True),
        Series("unigram entropy of the data", "baseline", baseline),
    ]
    unit = "nats a text" if "train/texts" in facts.last else "nats a token"
    note = f"Rows whose loss was not finite: {train.num_missing:,}." if train.num_missing else ""
    drawn = wide("Loss", unit, loss, note)
    for number, (name, title, unit) in enumerate(SMALL):
        if number < ALWAYS or facts.curves[name].last:
            drawn += small(title, unit, lines(name, facts.curves[name], "train", title))
    return report_sections.section("Curves", choice() + f"<div class=charts>{drawn}</div>")


def choice() -> str:
    """Return the control by which a reader chooses the smoothing of the charts that follow; it needs no script."""
    buttons = ""
    for number, name in enumerate(SMOOTHINGS):
        checked = " checked" if name == CHOSEN else ""
        buttons += f"<input type=radio name=smoothing id=smoothing-{number}{checked}><label for=smoothing-{number}>"
        buttons += f"{name}</label>"
    return f"<span class=choice>Smoothing</span>{buttons}"


def smoothed(label: str, look: str, curve: Curve) -> list[Series]:
    """Return a curve in each smoothing; the first has the label, since only one of them is shown."""
    made: list[Series] = []
    for number, share in enumerate(SMOOTHINGS.values()):
        if share:
            made.append(Series("" if made else label, f"{look} smooth-{number}", curve.smoothed(share)))
    return made


def lines(name: str, curve: Curve, look: str, label: str) -> list[Series]:
    """Return a curve as it is, paler, and in each smoothing; one that is short or has no noise as it is alone."""
    points = curve.points()
    if len(points) < 20 or name in EXACT:
        return [Series(label, look, points, dots=name == "validation/loss")]
    return [Series("", f"{look} raw", points), *smoothed(label, look, curve)]


def wide(title: str, unit: str, series: Sequence[Series], note: str = "") -> str:
    """Return a chart over the whole width, drawn anew for narrow screens."""
    label = f"{title} in {unit}, by step" if unit else f"{title}, by step"
    drawn = [
        charts.line_chart(series, label=label, width=width, height=height, from_zero=False)
        for width, height in ((960, 340), (360, 280))
    ]
    return (
        f"<figure class=wide><figcaption>{title} <span class=muted>{unit}</span></figcaption>{charts.legend(series)}"
        f"<div class=desktop>{drawn[0]}</div><div class=phone>{drawn[1]}</div>"
        f"<p class=muted>{note}</p></figure>"
    )


def small(title: str, unit: str, series: Sequence[Series], *, from_zero: bool = True) -> str:
    """Return a chart of a third of the width."""
    drawn = charts.line_chart(series, label=f"{title}, by step", width=360, height=220, from_zero=from_zero)
    return f"<figure><figcaption>{title} <span class=muted>{unit}</span></figcaption>{drawn}</figure>"


def evaluations(facts: Facts) -> str:
    """Return the evaluations on held-out text, the latest first, the best of them named."""
    rows = facts.evaluations.items()[::-1]
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    cells = [
        (
            f"{row['step']:,}",
            *("" if (value := row["metrics"].get(name)) is None else _figure(name, value) for name in names),
            "best" if facts.best and row["step"] == facts.best["step"] else "",
        )
        for row in rows
    ]
    body = report_sections.table(("step", *(name.replace("_", " ") for name in names), ""), cells)
    more = facts.evaluations.count - len(rows)
    return report_sections.section("Evaluation", body + (f"<p class=muted>and {more:,} more</p>" if more > 0 else ""))


def system(facts: Facts) -> str:
    """Return what the machine was at while the run was at work; nothing where that was not looked at."""
    drawn = ""
    for name, curve in sorted(facts.system.items()):
        head, _, ending = name.rpartition("_")
        unit, size = _UNITS.get(ending, ("", 1.0))
        title = (head if ending in _UNITS else name).replace("_", " ").replace("/", " ")
        points: list[Point] = [(step, value / size) for step, value in curve.points()]
        if points:
            drawn += small(report_sections.safe(title), unit, [Series(title, "train", points)])
    return report_sections.section("System", f"<div class=charts>{drawn}</div>") if drawn else ""


def _figure(name: str, value: float) -> str:
    if name == "perplexity":
        return progress.perplexity(value)
    return f"{100 * value:.1f} %" if name.endswith("accuracy") else f"{value:,.4f}" if value < 1e4 else f"{value:.3g}"
