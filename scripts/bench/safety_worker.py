"""Worker of safety.py: one filter over one text, again and again."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import paired


# As data.document_bytes: a text file is filtered in pieces of about this size.
DOCUMENT_CHARACTERS = 16_384


def documents(text: str) -> list[str]:
    """Cut a text at line ends."""
    pieces: list[list[str]] = [[]]
    size = 0
    for line in text.splitlines(keepends=True):
        pieces[-1].append(line)
        size += len(line)
        if size >= DOCUMENT_CHARACTERS:
            pieces.append([])
            size = 0
    return ["".join(piece) for piece in pieces]


def ours(parts: list[str], file: Path) -> tuple[Callable[[], object], dict[str, object]]:
    """The built-in policy."""
    from codex_jax.safety import engine

    filter_ = engine.default()
    return lambda: [filter_.examine(part, "train") for part in parts], {"rules": len(filter_.policy.rules)}


def plain(parts: list[str], file: Path) -> tuple[Callable[[], object], dict[str, object]]:
    """The patterns of the same rules in `re`, one after the other."""
    patterns, about = translated()
    every = [pattern for _, pattern in patterns]
    return lambda: [list(pattern.finditer(part)) for part in parts for pattern in every], about


def keywords(parts: list[str], file: Path) -> tuple[Callable[[], object], dict[str, object]]:
    """The same, where the text holds a keyword of the rule."""
    patterns, about = translated()

    def search(part: str) -> None:
        folded = part.lower()
        for words, pattern in patterns:
            if not words or any(word in folded for word in words):
                list(pattern.finditer(part))

    return lambda: [search(part) for part in parts], about


def translated() -> tuple[list[tuple[list[str], re.Pattern[str]]], dict[str, object]]:
    """Return the patterns with their keywords, and which of them `re` cannot read."""
    from codex_jax.safety import policy

    patterns, refused = [], {}
    for rule in policy.default().rules:
        for pattern in rule.patterns:
            try:
                # Letters and digits of every script are the nearest `re` has to the classes of Unicode.
                made = re.compile(re.sub(r"\\p([LN]|\{\w+\})", r"\\w", pattern))
                patterns.append(([word.lower() for word in rule.keywords], made))
            except re.error as error:
                refused[rule.id] = str(error)
    return patterns, {"patterns": len(patterns), "refused": refused}


def detect_secrets(parts: list[str], file: Path) -> tuple[Callable[[], object], dict[str, object]]:
    """detect-secrets with its own settings, on a file, which is its faster way."""
    import importlib.metadata

    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    file.write_text("".join(parts))

    def work() -> int:
        with default_settings():
            found = SecretsCollection()
            found.scan_file(str(file))
        return len(found.data)

    return work, {"detect_secrets": importlib.metadata.version("detect-secrets")}


SIDES = {"ours": ours, "re": plain, "re_keywords": keywords, "detect_secrets": detect_secrets}


def main(side: str, path: str, megabytes: str) -> None:
    """Serve measurements of one side on that much of a text, taken evenly from all of it."""
    text = Path(path).read_text("utf-8", errors="ignore")
    every = max(1, round(len(text) / (float(megabytes) * 1e6)))
    work, about = SIDES[side](documents(text)[::every], Path(path).with_suffix(f".{side}.txt"))
    paired.serve(work, {"python": sys.version.split()[0], **about})


if __name__ == "__main__":
    main(*sys.argv[1:])
