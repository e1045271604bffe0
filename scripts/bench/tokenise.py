"""Text to packed rows beside `datasets.map` with the same tokenizer, in one run.

    python scripts/bench/tokenise.py --peer-python PYTHON_WITH_DATASETS [--megabytes 200]

Ours reads, looks for secrets, tokenises and packs; the peer tokenises and packs. The text is the standard library's,
repeated with changes to the size asked for.
"""

import argparse
import json
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import paired


HERE = Path(__file__).parent


def main() -> None:
    """Write the text and the tokenizer, run the pairs and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    flags = parser.parse_args()
    path = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}:" + os.environ.get("PYTHONPATH", "")}
    with tempfile.TemporaryDirectory() as directory:
        text = Path(directory) / "text.txt"
        write_text(text, flags.megabytes * 1_000_000)
        arguments = [str(text), directory]
        ours = paired.Worker([sys.executable, str(HERE / "tokenise_ours.py"), *arguments], path)
        peer = paired.Worker([flags.peer_python, str(HERE / "tokenise_datasets.py"), *arguments], path)
        result = paired.compare(ours, peer, pairs=flags.pairs, warmup=0)
        print(json.dumps({"ours": ours.about, "peer": peer.about, "MB": flags.megabytes, "result": result}, indent=2))
        ours.close(), peer.close()


def write_text(path: Path, size: int) -> None:
    """Write the sources of the standard library again and again, each time with other numbers in their names."""
    root = Path(sysconfig.get_path("stdlib"))
    sources = [file.read_bytes() for file in sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/*.py"))]
    copy = written = 0
    with open(path, "wb") as file:
        while written < size:
            for source in sources:
                written += file.write(re.sub(rb"\bself\b", b"self%d" % copy if copy else b"self", source) + b"\n")
                if written >= size:
                    break
            copy += 1


if __name__ == "__main__":
    main()
