"""docs/tokenizers.md, word for word."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


pytestmark = pytest.mark.data

ROOT = Path(__file__).resolve().parents[2]


def test_every_command_of_the_page_works(tmp_path: Path, main_env: dict[str, str]) -> None:
    page = (ROOT / "docs/tokenizers.md").read_text()
    commands = re.findall(r"^    ((?:\w+=\S+ )*codex-jax .*)$", page, re.MULTILINE)
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(commands) > 12
    for name in ("README.md", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    env = {**main_env, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    script = "\n".join(re.sub(r"\bcodex-jax\b", '"$PYTHON" -m codex_jax.cli.app', command) for command in commands)
    script = f'set -eux\n{script}\n"$PYTHON" -c {shlex.quote(python)}\n'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build/copy/README.md").is_file()
