"""`codex-jax safety`: what the rules find in files, whether a policy is sound, and what becomes of a text."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click

from codex_jax import amounts
from codex_jax.cli import layout
from codex_jax.console import say
from codex_jax.errors import AssetError, ConfigError, Found
from codex_jax.safety import engine, policy, windows
from codex_jax.safety.engine import Engine
from codex_jax.safety.rule import ACTIONS, SEVERITIES, STAGES
from codex_jax.tracking import chain, ledger


# Git looks at as much to tell text from what is none.
_HEAD_BYTES = 8000

of_policy = click.option("--policy", "path", type=click.Path(path_type=Path), help="Policy instead of the default one.")


class Scanned(NamedTuple):
    """What was found in files, and what was looked at."""

    findings: list[dict[str, Any]]
    files: int
    binary: int


@click.group(cls=layout.Group)
def safety() -> None:
    """Look for secrets and personal data, and check the rules that do."""


@safety.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@of_policy
@click.option("--stage", type=click.Choice(STAGES), default="log", show_default=True, help="Whose actions apply.")
@layout.as_json
def scan(paths: tuple[str, ...], path: Path | None, stage: str, as_json: bool) -> None:
    """Say where in files and directories the rules find something; - is standard input.

    What was found is not shown. Binary files are left out and counted, and so are .git directories. Exit code 1 when
    anything was found, so that it serves as a hook before a commit.
    """
    found = _scanned(paths, _engine(path), stage)
    if as_json:
        layout.say_json(found._asdict())
    else:
        _say_findings(found)
    if found.findings:
        files = len({row["file"] for row in found.findings})
        raise Found(f"{amounts.counted(len(found.findings), 'finding')} in {amounts.counted(files, 'file')}")


@safety.command()
@click.argument("run", type=click.Path(path_type=Path))
@layout.as_json
def audit(run: Path, as_json: bool) -> None:
    """Say what the policy decided in a run, and whether events are missing.

    RUN is the directory of a run, or its events.ndjson. Every event carries a
    digest of all before it, and every checkpoint that of the last one before it.
    Exit code 3 when an event was changed, removed or put in, when the newest
    checkpoint knows one that is not there, and when the first were moved away.
    """
    events = run if run.is_file() else run / ledger.EVENTS
    decided = Counter(f"{row['action']}/{row['rule']}" for row in ledger.read(events) if _is_decision(row))
    reasons = [str(row.get("reason", "")) for row in ledger.read(events) if row["event"] == ledger.BYPASS]
    broken, wrong = chain.broken_link(ledger.read(events)), _wrong(events)
    if as_json:
        facts = {"events": str(events), "broken_line": broken, "decisions": decided, "bypasses": reasons}
        layout.say_json({**facts, "wrong": wrong})
    else:
        rows = [(*name.split("/"), str(count)) for name, count in decided.most_common()]
        layout.say_rows([("DECISION", "RULE", "COUNT"), *rows])
        for reason in reasons:
            say(f"bypassed: {reason}")
    if wrong:
        raise AssetError("\n".join(wrong))
    if not as_json:
        say(f"{events}: every event follows from the one before it")


def _wrong(events: Path) -> list[str]:
    """Return what shows that events are missing, or are others."""
    if broken := chain.broken_link(ledger.read(events)):
        return [f"{events} line {broken} does not follow from the lines before it: events were removed or changed"]
    found = []
    first = next(ledger.read(events), None)
    if first and (step := chain.given_up(first)) >= 0:
        found.append(f"{events} begins with a resume from step {step}: the events before were moved away")
    from codex_jax.checkpoint import store  # imports jax

    newest = store.find_newest(events.parent / "checkpoints")
    if newest and (lost := ledger.lost_events(events, newest.step, newest.meta)):
        found.append(lost)
    return found


def _is_decision(row: dict[str, Any]) -> bool:
    return row["event"].startswith("safety.") and "action" in row


@safety.command()
@click.argument("path", metavar="POLICY", type=click.Path(path_type=Path))
@layout.as_json
def check(path: Path, as_json: bool) -> None:
    """Load a policy, try all its examples, and count its rules.

    `default` is the one that comes with the package. Exit code 3 with everything that is wrong.
    """
    made = policy.default() if str(path) == "default" else policy.load(path)
    if problems := list(policy.unkept(made.rules)):
        raise policy.refusal(path, problems)
    rules = [rule for rule in made.rules if rule.enabled]
    counts = {stage: dict(Counter(filter(None, (rule.action(stage) for rule in rules)))) for stage in STAGES}
    examples = sum(len(rule.finds) + len(rule.spares) for rule in made.rules)
    if as_json:
        facts = {"rules": len(rules), "off": len(made.rules) - len(rules), "examples": examples, "stages": counts}
        layout.say_json({**facts, "digest": made.digest(), "forbid_bypass": made.forbid_bypass})
        return
    say(f"{len(rules)} rules in force, {len(made.rules) - len(rules)} off, {examples} examples kept")
    rows = [(stage, *(str(counts[stage].get(action, 0)) for action in ACTIONS)) for stage in STAGES]
    layout.say_rows([("STAGE", *ACTIONS), *rows])
    say(f"digest {made.digest()}")


@safety.command()
@click.argument("text")
@of_policy
@layout.as_json
def explain(text: str, path: Path | None, as_json: bool) -> None:
    """Say which rules find something in TEXT, and what becomes of it at each stage; - is standard input."""
    whole = sys.stdin.buffer.read().decode(errors="replace") if text == "-" else text
    ours = _engine(path)
    decisions = {stage: ours.examine(whole, stage) for stage in STAGES}
    if as_json:
        layout.say_json({stage: _explained(decision) for stage, decision in decisions.items()})
        return
    rows = [(stage, _verdict(decision), decision.text) for stage, decision in decisions.items()]
    layout.say_rows([("STAGE", "VERDICT", "TEXT"), *rows])
    matches = sorted({match for decision in decisions.values() for match in decision.matches})
    actions = [
        (one.rule, one.severity, f"{one.start}-{one.end}", f"{one.action} at {_stages(decisions, one)}")
        for one in matches
    ]
    layout.say_rows(
        [("RULE", "SEVERITY", "CHARACTERS", "ACTION"), *actions] if actions else [("no rule finds anything",)]
    )


def _engine(path: Path | None) -> Engine:
    return engine.of(policy.load(path)) if path else engine.default()


def _scanned(paths: tuple[str, ...], ours: Engine, stage: str) -> Scanned:
    findings: list[dict[str, Any]] = []
    files = binary = 0
    for name in _files(paths):
        places = _places(name, ours, stage)
        if places is None:
            binary += 1
            continue
        files += 1
        findings += [{"file": name, **place._asdict()} for place in places]
    return Scanned(findings, files, binary)


def _files(paths: tuple[str, ...]) -> Iterator[str]:
    """Yield the files, those of a directory by name."""
    for path in paths:
        if path != "-" and not os.path.exists(path):
            raise AssetError(f"{path} does not exist; correct the path")
        if not os.path.isdir(path):
            yield path
            continue
        for directory, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if name != ".git")
            whole = (os.path.join(directory, name) for name in sorted(names))
            yield from (name for name in whole if os.path.isfile(name))


def _places(name: str, ours: Engine, stage: str) -> list[windows.Place] | None:
    """Return what is found in a file; None when it is none of text."""
    if name == "-":
        return list(windows.scan(sys.stdin.buffer, ours, stage))
    if not os.path.isfile(name):
        raise ConfigError(f"{name} is no file that ends; name files, directories or -")
    try:
        with open(name, "rb") as file:
            return None if _is_binary(file) else list(windows.scan(file, ours, stage))
    except OSError as error:
        raise AssetError(f"{name} cannot be read: {error.strerror}; give access to it or leave it out") from error


def _is_binary(file: BinaryIO) -> bool:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    return b"\0" in head


def _say_findings(found: Scanned) -> None:
    if found.findings:
        rows = [(f"{row['line']}:{row['column']}", row["rule"], row["severity"], row["file"]) for row in found.findings]
        layout.say_rows([("PLACE", "RULE", "SEVERITY", "FILE"), *rows])
    counts = Counter(row["severity"] for row in found.findings)
    told = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity]) or "nothing"
    left_out = f"; {amounts.counted(found.binary, 'binary file')} left out" if found.binary else ""
    say(f"{amounts.counted(found.files, 'file')}: {told}{left_out}")


def _explained(decision: engine.Decision) -> dict[str, Any]:
    matches = [match._asdict() for match in decision.matches]
    return {"verdict": _verdict(decision), "blocked": decision.blocked, "matches": matches, "text": decision.text}


def _verdict(decision: engine.Decision) -> str:
    if decision.blocked:
        return "blocked"
    actions = {match.action for match in decision.matches}
    return "redacted" if "redact" in actions else "flagged" if "flag" in actions else "unchanged"


def _stages(decisions: dict[str, engine.Decision], match: engine.Match) -> str:
    return ", ".join(stage for stage, decision in decisions.items() if match in decision.matches)
