"""How fast the safety filter goes over clean text, beside plain `re` and detect-secrets, and what it takes out of it.

    python scripts/bench/safety.py --peer-path DIRECTORY_WITH_DETECT_SECRETS [--prose FILE ...] [--megabytes 20]

One core each. `re` runs the patterns of the same rules one after the other, `re_keywords` those of rules that have a
keyword in the text; neither checks what it finds. The peers get a part of the same text, since they need minutes for
all; ratios are of megabytes a second. Code is the standard library's, prose the files named or else the docstrings
there, both repeated with changes. Then everything found in one copy of the standard library is counted by rule.
"""

import argparse
import ast
import json
import os
import random
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

import paired
import tokenise

from codex_jax.safety import engine


HERE = Path(__file__).parent
PEERS = ("re", "re_keywords", "detect_secrets")


def main() -> None:
    """Write the texts, run the pairs and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-path", required=True, help="where pip install --target put detect-secrets")
    parser.add_argument("--prose", nargs="*", default=[])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--peer-megabytes", type=float, default=1)
    parser.add_argument("--pairs", type=int, default=3)
    flags = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        texts = {"code": Path(name) / "code.txt", "prose": Path(name) / "prose.txt"}
        tokenise.write_text(texts["code"], int(flags.megabytes * 1e6))
        write_prose(texts["prose"], int(flags.megabytes * 1e6), flags.prose)
        speeds = {kind: {peer: pair(text, peer, flags) for peer in PEERS} for kind, text in texts.items()}
    print(json.dumps({"speed": speeds, "clean": clean()}, indent=2))


def pair(text: Path, peer: str, flags: argparse.Namespace) -> dict[str, object]:
    """Measure ours and a peer in turn on one text."""
    worker = str(HERE / "safety_worker.py")
    path = f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")
    theirs = f"{path}:{flags.peer_path}" if peer == "detect_secrets" else path
    python = flags.peer_python if peer == "detect_secrets" else sys.executable
    sides = (
        paired.Worker([sys.executable, worker, "ours", str(text), str(flags.megabytes)], {"PYTHONPATH": path}),
        paired.Worker([python, worker, peer, str(text), str(flags.peer_megabytes)], {"PYTHONPATH": theirs}),
    )
    result = paired.compare(*sides, pairs=flags.pairs, warmup=0)
    scale = flags.megabytes / flags.peer_megabytes
    for side in sides:
        side.close()
    return {
        "ours_MB_s": flags.megabytes / result["ours_secs"],
        "peer_MB_s": flags.peer_megabytes / result["peer_secs"],
        "times_as_fast": scale / result["ratio"],
        "lowest": scale / result["ratio_high"],
        "highest": scale / result["ratio_low"],
        "peer": sides[1].about,
    }


def write_prose(path: Path, size: int, files: list[str]) -> None:
    """Write the files again and again, each time with their paragraphs in another order."""
    if files:
        paragraphs = [part for file in files for part in Path(file).read_text("utf-8").split("\n\n")]
    else:
        paragraphs = [part for source in standard_library() for part in docstrings(source.read_bytes())]
    written, copy = 0, 0
    with open(path, "wb") as file:
        while written < size:
            random.Random(copy).shuffle(paragraphs)
            written += file.write(("\n\n".join(paragraphs) + "\n\n").encode()[: size - written])
            copy += 1


def standard_library() -> list[Path]:
    """Return the sources of the standard library that are no tests."""
    root = Path(sysconfig.get_path("stdlib"))
    out = {"site-packages", "test", "tests", "idlelib"}
    return [file for file in sorted(root.rglob("*.py")) if not out & set(file.relative_to(root).parts)]


def docstrings(source: bytes) -> list[str]:
    """Return what a source says in words."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def clean() -> dict[str, object]:
    """Count what is found in the standard library, which holds no secrets, but the addresses of its authors."""
    counts: Counter[str] = Counter()
    size = 0
    for file in standard_library():
        text = file.read_text("utf-8", errors="replace")
        size += len(text.encode())
        counts.update(f"{match.rule} ({match.action})" for match in engine.default().examine(text, "train").matches)
    others = sum(count for name, count in counts.items() if not name.startswith("email "))
    return {"MB": size / 1e6, "found": dict(counts.most_common()), "per_MB_beside_email": others / size * 1e6}


if __name__ == "__main__":
    main()
