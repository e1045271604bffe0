"""Reads the tables beside this file: `[name]`, then one template a line; ⏎ stands for a line end and ⇥ for a tab."""

import functools
import re
from pathlib import Path


@functools.cache
def read(name: str) -> dict[str, list[str]]:
    """Return the sections of a table; what stands before the first one explains it."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (Path(__file__).parent / f"{name}.txt").read_text("utf-8").split("\n"):
        if head := re.fullmatch(r"\[(\w+)\]", line):
            current = sections.setdefault(head[1], [])
        elif line:
            current.append(line.replace("⏎", "\n").replace("⇥", "\t"))
    return sections
