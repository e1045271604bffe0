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
    return lambda: [filter_.redact(part) for part in parts], {}


def plain(parts: list[str], file: Path) -> tuple[Callable[[], object], dict[str, object]]:
    """The same rules in `re`, one after the other."""
    from codex_jax.safety.rules import RULES

    patterns, refused = [], {}
    for rule in RULES:
        try:
            # Letters and digits of every script are the nearest `re` has to the classes of Unicode.
            patterns.append(re.compile(re.sub(r"\\p([LN]|\{\w+\})", r"\\w", rule.pattern)))
        except re.error as error:
            refused[rule.name] = str(error)
    about = {"patterns": len(patterns), "refused": refused}
    return lambda: [list(pattern.finditer(part)) for part in parts for pattern in patterns], about


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


SIDES = {"ours": ours, "re": plain, "detect_secrets": detect_secrets}


def main(side: str, path: str, megabytes: str) -> None:
    """Serve measurements of one side on that much of a text, taken evenly from all of it."""
    text = Path(path).read_text("utf-8", errors="ignore")
    every = max(1, round(len(text) / (float(megabytes) * 1e6)))
    work, about = SIDES[side](documents(text)[::every], Path(path).with_suffix(f".{side}.txt"))
    paired.serve(work, {"python": sys.version.split()[0], **about})


if __name__ == "__main__":
    main(*sys.argv[1:])
