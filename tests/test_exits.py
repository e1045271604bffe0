"""How a command ends: with its own exit code, whatever comes while it does."""

import signal
import subprocess
import sys

import pytest


pytestmark = pytest.mark.infra

# The modules of a program are cleared when Python has given up its handlers of signals.
ENDING = """
import os, signal, sys
from codex_jax import exits
from codex_jax.signals import StopRequest

stop = StopRequest()

class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), number=int(sys.argv[1])):
        kill(process, number)
        print("ended", flush=True)

last = Last()
exits.end(75)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_the_process_ends_does_not_change_its_exit_code(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(int(number))], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (75, "ended\n"), done.stderr
