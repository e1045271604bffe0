"""What hangs ends its process, whatever the thread that waits is doing; what is only slow or stopped does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent
BEGIN = """
import ctypes, faulthandler, multiprocessing, os, time
from codex_jax.watchdog import Watchdog
watchdog = Watchdog()
pause = ctypes.CDLL(None).pause  # of C: no exception gets out of it
"""


def start(program: str, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *args, "-c", BEGIN + program],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


HANG = """
watchdog.tell = lambda message: print("told:", message, flush=True)
with watchdog.watch("step 12", 0.3, "train.max_step_secs"):
    pause()
"""


def test_what_hangs_in_c_is_named_told_and_ended() -> None:
    code, output, error = ended(start(HANG))
    assert code == 4
    assert error.startswith("codex_jax: step 12 has not ended within 0.3 s (train.max_step_secs), since ")
    assert error.count("\n") == 1 and output == "told: " + error.removeprefix("codex_jax: ")


def test_stacks_are_shown_where_they_are_asked_for() -> None:
    code, _, error = ended(start("faulthandler.enable()" + HANG))
    assert code == 4 and "Current thread" in error and 'File "<string>"' in error


def test_process_ends_though_the_message_cannot_be_written_down() -> None:
    program = HANG.replace("print(", "pause(", 1)
    assert ended(start(program))[0] == 4


def test_nothing_is_ended_that_has_no_limit_or_is_done_or_renewed_in_time() -> None:
    program = """
with watchdog.watch("a", 0, "k"):
    with watchdog.watch("b", 0.3, "k"):
        pass
    with watchdog.watch("c", 2, "k") as limit:
        for _ in range(30):
            time.sleep(0.1)
            limit.renew()
print("done")
"""
    assert ended(start(program)) == (0, "done\n", "")


def test_time_in_which_the_process_itself_was_stopped_does_not_count() -> None:
    program = """
with watchdog.watch("a", 2, "k"):
    print("watching", flush=True)
    time.sleep(0.8)
print("done")
"""
    process = start(program)
    assert process.stdout is not None and process.stdout.readline() == "watching\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert ended(process) == (0, "done\n", "")


def test_processes_that_work_for_it_end_with_it_though_they_are_stopped() -> None:
    program = """
child = multiprocessing.get_context("fork").Process(target=pause)
child.start()
print(child.pid, flush=True)
"""
    process = start(program + HANG)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.kill(child, signal.SIGSTOP)
    assert ended(process)[0] == 4
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
