"""What `codex-jax run show` tells of a run: what it was, from where to where, how it ended, and what came of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax import amounts, rundir
from codex_jax.checkpoint import layout
from codex_jax.tracking import progress, report_facts
from codex_jax.tracking.report_facts import STARTS, Facts


DIGEST_CHARS = 16


def shown(run: Path) -> dict[str, Any]:
    """Return the facts of a run as plain values; AssetError when it is none, or damaged."""
    settings = rundir.read_settings(run)
    record = rundir.read_record(run / "provenance.json")
    facts = report_facts.collect(run)
    life = list(facts.life.items())
    saved = [row["step"] for row in facts.checkpoints.items()]
    ended: dict[str, Any] = next((row for row in reversed(life) if row["event"] == "run.finished"), {})
    start = facts.start or {}
    return {
        "run": str(run),
        "run_id": facts.run_id,
        "model": {
            "name": settings.get("model", {}).get("name") or start.get("model"),
            **{name: settings.get("model", {}).get(name) for name in ("num_layers", "width", "weights")},
            "parameters": start.get("parameters"),
            "trained_parameters": start.get("trained_parameters"),
        },
        "seed": settings.get("run", {}).get("seed"),
        "steps": {"last": _last_step(facts), "planned": settings.get("train", {}).get("num_steps")},
        "time": {"started": facts.started, "ended": ended.get("time"), "at_work_secs": facts.clock.seconds()},
        "status": facts.status,
        "reason": ended.get("reason") if facts.status != "not finished" else None,
        "resumed_from": [row.get("from_step") for row in life if row["event"] == "run.resumed"],
        "starts": sum(row["event"] in STARTS for row in life),
        "saved_steps": saved,
        "checkpoints": sorted(layout.steps(run / "checkpoints")),
        "code": {**(record.get("git") or {}), **(record.get("code") or {})},
        "versions": record.get("versions", {}),
        "hardware": record.get("hardware", {}),
        "digests": record.get("digests", {}),
        "results": facts.last,
        "best": facts.best and {"step": facts.best["step"], **facts.best["metrics"]},
        "report": str(run / "report.html") if (run / "report.html").is_file() else None,
    }


def rows(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a person reads of the facts."""
    model, steps, when = told["model"], told["steps"], told["time"]
    yield "run", told["run"]
    yield "id", told["run_id"] or "-"
    size = f", {model['num_layers']} layers, width {model['width']}" if model.get("num_layers") else ""
    count = f", {model['parameters']:,} parameters" if model["parameters"] else ""
    # Of a run of an older version that began with weights it is not known.
    unnamed = "-" if model.get("weights") else "gpt2"
    yield "model", f"{model['name'] or unnamed}{size}{count}"
    if model["trained_parameters"] and model["trained_parameters"] != model["parameters"]:
        yield "trained", f"{model['trained_parameters']:,} of them"
    if model.get("weights"):
        yield "began with", str(model["weights"])
    yield "seed", str(told["seed"])
    yield "code", _code(told["code"], told["versions"])
    yield "machine", _machine(told["hardware"])
    planned = f" of {steps['planned']:,}" if steps["planned"] else ""
    yield "steps", f"0 to {steps['last']:,}{planned}"
    if when["started"] is not None:
        yield "started", report_facts.moment(when["started"])
    if told["resumed_from"]:
        yield "resumed", "from step " + ", ".join(f"{step:,}" for step in told["resumed_from"])
    ended = f" {report_facts.moment(when['ended'])}" if when["ended"] is not None else ""
    yield "ended", told["status"] + ended + (f": {told['reason']}" if told["reason"] else "")
    yield "time at work", progress.duration(when["at_work_secs"])
    yield "checkpoints", ", ".join(map(str, told["checkpoints"])) or "none"


def results(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the latest value of each figure, and the best of the evaluations."""
    for name, value in sorted(told["results"].items()):
        if not name.startswith(("speed/", report_facts.MANY)):
            yield name, f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    if told["best"]:
        yield "best validation loss", f"{told['best']['loss']:.6g} at step {told['best']['step']:,}"


def digests(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the digests of what the run is made of, shortened."""
    for name, value in told["digests"].items():
        yield name, str(value)[:DIGEST_CHARS]
    for name in ("sha256", "record_sha256"):
        if told["code"].get(name):
            yield "code", str(told["code"][name])[:DIGEST_CHARS]
    if told["hardware"].get("fingerprint"):
        yield "hardware", told["hardware"]["fingerprint"][:DIGEST_CHARS]


def _code(code: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    commit = f"commit {code['commit'][:12]}" if code.get("commit") else "no commit"
    changed = (
        f" with changes ({code['diff']['file']})" if code.get("diff") else " with changes" if code.get("dirty") else ""
    )
    parts = [f"{name} {versions[name]}" for name in ("codex-jax", "jax", "python") if versions.get(name)]
    return ", ".join([commit + changed, *parts])


def _machine(hardware: Mapping[str, Any]) -> str:
    if not hardware:
        return "-"
    devices = hardware["devices"]
    kinds = ", ".join(f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices))
    return f"{hardware['cpu']}, {amounts.counted(hardware['cores']['logical'] or 0, 'core')}, {kinds}"


def _last_step(facts: Facts) -> int:
    steps = [curve.last[0] for curve in facts.curves.values() if curve.last]
    return max([*steps, *(row["step"] for row in facts.life.items())], default=0)
