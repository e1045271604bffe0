"""report.html: what a run did, on one page that opens anywhere and asks no network for anything."""

from html import escape
from importlib import resources
from pathlib import Path

from codex_jax import atomic, rundir
from codex_jax.tracking import report_charts, report_history, report_sections
from codex_jax.tracking.report_facts import Facts


# The page runs no script and loads nothing; the policy holds even if a text in it were to slip through as markup.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(workdir: Path, facts: Facts, path: Path | None = None) -> Path:
    """Write WORKDIR/report.html, or `path`, from the facts of a ledger and the files beside it, and return its path.

    config.json and provenance.json may be absent. Raises AssetError when one is damaged, TrainingStopped when the page
    cannot be written.
    """
    config = rundir.read_record(workdir / "config.json")
    settings, origin = config.get("settings", {}), config.get("origin", {})
    body = [
        report_sections.header(facts, settings),
        report_sections.headlines(facts),
        report_charts.curves(facts),
        report_charts.evaluations(facts),
        report_sections.samples(facts),
        report_sections.data(facts),
        report_charts.system(facts),
        report_history.history(facts),
        report_sections.configuration(settings, origin),
        report_sections.provenance(rundir.read_record(workdir / "provenance.json")),
    ]
    return write_page(path or workdir / "report.html", facts.run_id, body)


def write_page(path: Path, title: str, body: list[str]) -> Path:
    """Write a page of these parts whole or not at all, and return its path."""
    page = PAGE.format(
        title=escape(f"{title} \N{MIDDLE DOT} codex_jax"),
        style=resources.files("codex_jax.tracking").joinpath("report.css").read_text(encoding="utf-8"),
        body="\n".join(part for part in body if part),
    )
    with atomic.replacing(path) as file:
        file.write(page.encode("utf-8", "replace"))
    return path
