"""A ledger in parts: read as one, rewound as one, and whole after a crash at any point of what happens to its files."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from codex_jax.errors import AssetError
from codex_jax.tracking import chain, ledger, rows


pytestmark = pytest.mark.infra

LIMIT = 600


def open_ledger(workdir, resume_step=0, rotate_bytes=LIMIT):
    return ledger.Ledger(workdir, run_id="r1", resume_step=resume_step, rotate_bytes=rotate_bytes)


def write_run(workdir, steps, rotate_bytes=LIMIT):
    book = open_ledger(workdir, 0, rotate_bytes)
    write_steps(book, 1, steps)
    book.close()


def write_steps(book, first, last):
    for step in range(first, last + 1):
        book.metrics(step, "train", {"loss": 1 / step})
        book.event("sample", step, {"name": "a", "text": f"text {step}"})
        book.event("checkpoint.saved", step, {"bytes": step})


def steps_of(workdir, name=ledger.METRICS):
    return [row["step"] for row in ledger.read(workdir / name)]


def without_times(workdir):
    return [
        [{key: row[key] for key in row if key not in ("time", "chain")} for row in ledger.read(workdir / name)]
        for name in (ledger.METRICS, ledger.EVENTS)
    ]


def test_parts_are_read_in_order_and_hold_what_one_file_would(tmp_path):
    write_run(tmp_path / "parts", 60)
    write_run(tmp_path / "whole", 60, rotate_bytes=0)
    assert len(rows.parts(tmp_path / "parts" / ledger.METRICS)) > 5
    assert rows.parts(tmp_path / "whole" / ledger.METRICS) == []
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")
    assert chain.broken_link(ledger.read(tmp_path / "parts" / ledger.EVENTS)) is None


def test_a_part_is_set_aside_when_it_has_the_size_and_lines_stay_whole(tmp_path):
    write_run(tmp_path, 30)
    found = rows.parts(tmp_path / ledger.METRICS)
    assert [part.name for part in found][:2] == ["metrics.0001.ndjson", "metrics.0002.ndjson"]
    assert all(LIMIT <= part.stat().st_size < LIMIT + 200 and part.read_bytes().endswith(b"\n") for part in found)


@pytest.mark.parametrize("resume_step", [0, 1, 7, 13, 29, 30])
def test_a_resume_rewinds_over_parts_as_in_one_file(tmp_path, resume_step):
    for name, rotate_bytes in (("parts", LIMIT), ("whole", 0)):
        write_run(tmp_path / name, 30, rotate_bytes)
        book = open_ledger(tmp_path / name, resume_step, rotate_bytes)
        write_steps(book, resume_step + 1, 40)
        book.close()
    assert steps_of(tmp_path / "parts") == list(range(1, 41))
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")
    assert chain.broken_link(ledger.read(tmp_path / "parts" / ledger.EVENTS)) is None


def test_parts_before_the_step_stay_as_they_are(tmp_path):
    write_run(tmp_path, 30)
    first = rows.parts(tmp_path / ledger.METRICS)[0]
    before = (first.stat().st_ino, first.read_bytes())
    open_ledger(tmp_path, resume_step=20).close()
    assert (first.stat().st_ino, first.read_bytes()) == before
    assert len(rows.parts(tmp_path / ledger.METRICS)) < 10


def test_reading_up_to_a_size_counts_the_parts(tmp_path):
    book = open_ledger(tmp_path)
    write_steps(book, 1, 20)
    metrics, events = book.sizes()
    write_steps(book, 21, 40)
    assert [row["step"] for row in ledger.read(tmp_path / ledger.METRICS, until=metrics)] == list(range(1, 21))
    assert [row["step"] for row in ledger.read(tmp_path / ledger.EVENTS, until=events)][-1] == 20


def test_a_part_that_is_damaged_anywhere_is_named(tmp_path):
    write_run(tmp_path, 30)
    part = rows.parts(tmp_path / ledger.METRICS)[1]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(AssetError, match=r"metrics\.0002\.ndjson line \d is damaged"):
        steps_of(tmp_path)
    with pytest.raises(AssetError, match=r"metrics\.0002\.ndjson line \d is damaged"):
        open_ledger(tmp_path, resume_step=30)


def test_an_event_that_was_removed_from_a_part_shows(tmp_path):
    write_run(tmp_path, 30)
    part = rows.parts(tmp_path / ledger.EVENTS)[1]
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(AssetError, match="does not follow from the lines before it"):
        open_ledger(tmp_path, resume_step=30)


def crash_between(monkeypatch, call, number):
    """Let the process 'die' at the n-th call of a function of os."""
    real, seen = getattr(os, call), [0]

    def dying(*arguments, **named):
        seen[0] += 1
        if seen[0] == number:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, dying)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("call", ["link", "replace", "unlink", "fsync"])
def test_a_crash_while_a_ledger_is_rewound_or_set_aside_loses_and_doubles_nothing(tmp_path, monkeypatch, call, number):
    write_run(tmp_path, 30)
    with monkeypatch.context() as patch:
        crash_between(patch, call, number)
        died = False
        try:
            book = open_ledger(tmp_path, resume_step=12)
            write_steps(book, 13, 40)
        except KeyboardInterrupt:
            died = True
    found = steps_of(tmp_path)
    assert found == list(range(1, found[-1] + 1)), "a row is missing or twice"
    assert chain.broken_link(ledger.read(tmp_path / ledger.EVENTS)) is None
    book = open_ledger(tmp_path, resume_step=12)
    write_steps(book, 13, 20)
    book.close()
    assert steps_of(tmp_path) == list(range(1, 21))
    assert not list(tmp_path.glob("*.rewound*")) and not list(tmp_path.glob("*.tmp"))
    assert died or number > 1


def test_a_reader_meets_every_row_once_while_parts_are_set_aside(tmp_path):
    book, done = open_ledger(tmp_path), threading.Event()

    def write():
        write_steps(book, 1, 400)
        done.set()

    writing = threading.Thread(target=write)
    writing.start()
    newest = 0
    while not done.is_set():
        found = steps_of(tmp_path)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= newest
        newest = len(found)
    writing.join()
    assert len(steps_of(tmp_path)) == 400


WRITE = """
import sys, threading
from pathlib import Path
from codex_jax.tracking import ledger

book = ledger.Ledger(Path(sys.argv[1]), run_id="r1", resume_step=0, rotate_bytes=2000)

def write(thread):
    for number in range(1, 1_000_000):
        book.metrics(number, f"thread{thread}", {"loss": 1.0})
        book.event("data.quarantined", number, {"thread": thread})
        if thread == 0 and number % 50 == 0:
            book.sync()
            print(number, flush=True)

for thread in range(4):
    threading.Thread(target=write, args=(thread,)).start()
"""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_threads_write_into_parts_until_they_are_killed_and_no_row_is_lost(tmp_path, seed):
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = int(process.stdout.readline())
        time.sleep(random.Random(seed).uniform(0.1, 0.6))
        process.send_signal(signal.SIGKILL)
        told = max(told, *map(int, process.stdout.read().split() or ["0"]))
    assert len(rows.parts(tmp_path / ledger.EVENTS)) > 3
    for name, key in ((ledger.METRICS, "split"), (ledger.EVENTS, "thread")):
        found = {}
        for row in ledger.read(tmp_path / name):
            found.setdefault(row[key], []).append(row["step"])
        assert len(found) == 4
        assert all(steps == list(range(1, len(steps) + 1)) for steps in found.values())
        assert len(found[0 if key == "thread" else "thread0"]) >= told, "what was safe on the disk is gone"
    assert chain.broken_link(ledger.read(tmp_path / ledger.EVENTS)) is None
