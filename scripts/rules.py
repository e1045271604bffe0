"""The house rules no linter knows: sizes, banned words, and that changelog, version and lock agree.

Run by scripts/check. Needs only the standard library and prints one line a violation.
"""

import ast
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
BANNED_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
# The one place that talks to the person in front of the terminal.
PRINTERS = ("codex_jax/console.py",)


def violations(root: Path) -> list[str]:
    """Return what breaks a rule in the checkout at `root`, one line each, empty when all is well."""
    found = [*changelog(root), *lock(root)]
    for path in sorted((root / "codex_jax").rglob("*.py")):
        found += [f"{path.relative_to(root)}: {text}" for text in module(path.relative_to(root), path.read_text())]
    return found


def module(path: Path, source: str) -> Iterator[str]:
    """Yield what breaks a rule in one module of the package."""
    lines = source.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{lines} lines, the most is {MAX_FILE_LINES}"
    if banned := BANNED_NAMES & {path.stem, *path.parts[:-1]}:
        yield f"a module named {banned.pop()} says nothing about what is in it"
    for node in ast.walk(ast.parse(source)):
        yield from _function(path, node)
        yield from _statement(path, node)


def changelog(root: Path) -> Iterator[str]:
    """Yield a line unless the newest heading of CHANGELOG.md is the version of the package."""
    version = re.search(r'^__version__ = "(.+)"$', (root / "codex_jax/__init__.py").read_text(), re.MULTILINE)
    heading = re.search(r"^## \[?(\d[^\]\s]*)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if version is None or heading is None or version[1] != heading[1]:
        pair = [match and match[1] for match in (heading, version)]
        yield f"CHANGELOG.md: the newest heading is {pair[0]}, codex_jax.__version__ is {pair[1]}"


def lock(root: Path) -> Iterator[str]:
    """Yield a line unless requirements.lock was made from the dependencies in pyproject.toml."""
    made_from = re.search(r"^# inputs: (\w+)$", (root / "requirements.lock").read_text(), re.MULTILINE)
    if made_from is None or made_from[1] != lock_inputs(root):
        yield "requirements.lock: pyproject.toml names other dependencies; run scripts/lock"


def lock_inputs(root: Path) -> str:
    """Return the SHA-256 of everything in pyproject.toml that requirements.lock depends on."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    tables = project["project"]
    inputs = [
        tables["requires-python"],
        sorted(tables["dependencies"]),
        sorted(tables["optional-dependencies"]["test"]),
        project["build-system"]["requires"],
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _function(path: Path, node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > MAX_FUNCTION_LINES:
        yield f"{node.lineno}: {node.name} has {length} lines, the most is {MAX_FUNCTION_LINES}"


def _statement(path: Path, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and not path.as_posix().startswith(PRINTERS):
        yield f"{node.lineno}: print; use codex_jax.console"
    if isinstance(node, ast.ExceptHandler):
        names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else set()
        if node.type is None:
            yield f"{node.lineno}: an except that catches everything; name the errors"
        elif names & {"Exception", "BaseException"} and all(
            isinstance(line, ast.Pass | ast.Continue) for line in node.body
        ):
            yield f"{node.lineno}: except Exception that hides the failure; name the errors or report them"


def main(arguments: list[str]) -> int:
    """Print the violations of this checkout, or what its lock has to be made from."""
    root = Path(__file__).resolve().parent.parent
    if arguments == ["--lock-inputs"]:
        print(lock_inputs(root))
        return 0
    found = violations(root)
    print("\n".join(found) if found else "rules: all kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
