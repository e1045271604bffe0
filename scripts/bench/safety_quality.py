"""Recall and precision of the safety filter on the labelled corpus, with 95 % intervals.

    python scripts/bench/safety_quality.py [--size 5000] [--seed 2] [--errors 20] [--filter detect_secrets]

A value counts as found when all of it is gone. `--filter detect_secrets` scores that package, if it is installed.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/safety"))

from corpus import samples, score  # noqa: E402

from codex_jax.safety import engine  # noqa: E402


def ours(text: str) -> tuple[list[score.Found], str]:
    """Run the built-in policy over a text."""
    decision = engine.default().examine(text, "train")
    found = [match for match in decision.matches if match.action in ("block", "redact")]
    return [score.Found(match.rule, match.start, match.end) for match in found], decision.text


def detect_secrets(text: str) -> tuple[list[score.Found], str]:
    """Run detect-secrets with its own settings over a text, as a file."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    collection, found, left = SecretsCollection(), [], text
    with tempfile.NamedTemporaryFile("w", suffix=".txt", newline="") as file, default_settings():
        file.write(text)
        file.flush()
        collection.scan_file(file.name)
    for value, kind in {(secret.secret_value, secret.type) for _, secret in collection if secret.secret_value}:
        found += [score.Found(kind, *match.span()) for match in re.finditer(re.escape(value), text)]
        left = left.replace(value, "")
    return found, left


FILTERS = {"ours": ours, "detect_secrets": detect_secrets}


def main() -> None:
    """Make the corpus, run the filter over it and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5000, help="texts of each of three groups")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--errors", type=int, default=0, help="how many misses and false alarms of a kind to show")
    parser.add_argument("--filter", choices=FILTERS, default="ours")
    flags = parser.parse_args()
    corpus = samples.make(flags.seed, flags.size)
    start = time.perf_counter()
    result = score.score(corpus, FILTERS[flags.filter])
    seconds = time.perf_counter() - start
    megabytes = sum(len(sample.text.encode()) for sample in corpus) / 1e6
    print(f"{len(corpus)} texts, {megabytes:.1f} MB, seed {flags.seed}, {seconds:.1f} s\n")
    print("\n".join(table(result)))
    if flags.errors:
        print("\n".join(["", *errors("missed", result.misses, flags.errors)]))
        print("\n".join(["", *errors("false alarm", result.alarms, flags.errors)]))


def table(result: score.Score) -> list[str]:
    """Return the rates, at most 80 columns wide."""
    lines = [f"{'':24}{'recall':>6}{'precision':>29}"]
    for group in samples.GROUPS:
        lines.append(_row(group.upper(), result.group_recall(group), result.group_precision(group)))
        lines += [_row("  " + kind, rate) for (own, kind), rate in result.recall.items() if own == group]
    lines += ["", f"{'rule':24} precision"]
    return lines + [_row(rule, rate) for rule, rate in result.rules.items()]


def _row(name: str, *rates: score.Rate) -> str:
    cells = []
    for rate in rates:
        low, high = rate.interval()
        cells.append(f"{rate.value:6.3f} ({low:.3f}-{high:.3f}) {rate.total:5}")
    return f"{name:24}" + "".join(cells)


def errors(title: str, found: list[score.Error], most: int) -> list[str]:
    """Return up to `most` errors of each name; the values were drawn, so they may be shown."""
    lines = []
    for name in sorted({error.name for error in found}):
        own = [error for error in found if error.name == name]
        lines.append(f"{title}: {name} ({len(own)})")
        for error in own[:most]:
            text = error.sample.text
            left, right = text[max(0, error.start - 50) : error.start], text[error.end : error.end + 25]
            lines.append(f"  {left!r} [{text[error.start : error.end][:120]!r}] {right!r} {error.sample.harmless}")
    return lines


if __name__ == "__main__":
    main()
