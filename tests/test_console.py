"""A terminal that is gone, full or of another encoding never ends a run."""

import subprocess
import sys
from typing import Any

import pytest


pytestmark = pytest.mark.infra

SAYS = "from codex_jax import console; console.prepare(); console.say('a' * 100_000); console.say('b'); print('c')"


def test_a_reader_that_has_gone_is_no_failure() -> None:
    process = subprocess.Popen([sys.executable, "-c", SAYS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, "")
    process.stderr.close()


def test_a_full_disk_behind_the_output_is_no_failure() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", SAYS], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_character_the_terminal_does_not_know_is_shown_as_another(main_env: dict[str, Any]) -> None:
    program = "from codex_jax import console; console.prepare(); console.say('caf\\u00e9 \\u4e16')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**main_env, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "caf? ?\n")


LOGS = """
import logging
from codex_jax import console
console.prepare()
logging.info("this sets up logging where nobody did")
logging.getLogger("codex_jax.tracking").warning("a copy is given up")
logging.getLogger("library").warning("it is %s", "old")
logging.getLogger("library").info("aside")
"""


def test_warnings_that_are_logged_look_like_all_others_whatever_a_library_sets_up() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True)
    assert done.stderr == "codex_jax: a copy is given up\nlibrary: it is old\n"
