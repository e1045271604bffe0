import json
import math
import os
import resource
import subprocess
import sys
import time

import numpy
import pytest

from codex_jax.errors import AssetError, TrainingStopped
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra


def open_ledger(workdir, resume_step=0):
    return ledger.Ledger(workdir, run_id="r1", resume_step=resume_step)


def rows_of(workdir, name=ledger.METRICS):
    return list(ledger.read(workdir / name))


def write_run(workdir, steps):
    book = open_ledger(workdir)
    book.event("run.started", 0, {})
    book.metrics(0, "baseline", {"unigram_entropy": 6.5})
    for step in range(1, steps + 1):
        book.metrics(step, "train", {"loss": 1 / step})
        book.event("data.quarantined", step, {"line": step})
        book.event("sample", step, {"name": "a", "text": "b"})
        book.event("checkpoint.saved", step, {"bytes": step})
    book.close()


def test_a_row_has_exactly_the_documented_keys(tmp_path):
    book = open_ledger(tmp_path)
    returned = book.metrics(3, "train", {"loss": 4.25, "tokens": 10**17})
    book.close()
    (row,) = rows_of(tmp_path)
    assert row == returned
    assert list(row) == ["run_id", "step", "split", "time", "metrics"]
    assert row["metrics"] == {"loss": 4.25, "tokens": 10**17}


def test_every_row_of_both_files_says_of_which_run_it_is_and_when_it_was_written(tmp_path):
    before = round(time.time(), 3)
    write_run(tmp_path, 3)
    after = round(time.time(), 3)
    rows = [*rows_of(tmp_path), *rows_of(tmp_path, ledger.EVENTS)]
    assert {row["run_id"] for row in rows} == {"r1"}
    assert [row for row in rows if not before <= row["time"] <= after] == []


@pytest.mark.parametrize("value", [[1.0, 2.0], {"a": 1.0}, numpy.ones(2), None, "a word"])
def test_what_is_no_number_is_refused_and_leaves_no_line(tmp_path, value):
    book = open_ledger(tmp_path)
    with pytest.raises((TypeError, ValueError)):
        book.metrics(1, "train", {"loss": 1.0, "wrong": value})
    assert rows_of(tmp_path) == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (2**53 + 1, 2**53 + 1),
        (-(2**63), -(2**63)),
        (2**63, 2.0**63),
        (10**30, 1e30),
        (10**400, None),
        (-(10**400), None),
    ],
)
def test_an_integer_is_kept_to_64_bits_and_beyond_as_the_nearest_float(tmp_path, value, kept):
    open_ledger(tmp_path).metrics(1, "train", {"tokens": value})
    (row,) = rows_of(tmp_path)
    assert (row["metrics"]["tokens"], type(row["metrics"]["tokens"])) == (kept, type(kept))
    assert row.get("non_finite", []) == (["tokens"] if kept is None else [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_null_and_named(tmp_path, value):
    open_ledger(tmp_path).metrics(1, "train", {"loss": value, "grad_norm": 1.0})
    line = (tmp_path / ledger.METRICS).read_text()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (row["metrics"], row["non_finite"]) == ({"loss": None, "grad_norm": 1.0}, ["loss"])


@pytest.mark.parametrize("text", ["a\nb\r\n", "\u2028 \x85 \x00", "é 漢字 🙂", "\ud800", '"\\"'])
def test_text_of_any_kind_stays_on_one_line_and_comes_back(tmp_path, text):
    book = open_ledger(tmp_path)
    book.event("sample", 1, {"name": "a", "text": text})
    book.event("run.finished", 1, {})
    assert len((tmp_path / ledger.EVENTS).read_text().splitlines()) == 2
    assert rows_of(tmp_path, ledger.EVENTS)[0]["text"] == text


def test_event_fields_of_numpy_and_paths_become_plain(tmp_path):
    fields = {"n": numpy.int64(3), "x": numpy.float32(0.5), "bad": math.nan, "path": tmp_path, "list": [(1, True)]}
    open_ledger(tmp_path).event("run.started", 0, fields)
    row = rows_of(tmp_path, ledger.EVENTS)[0]
    assert [row[name] for name in fields] == [3, 0.5, None, str(tmp_path), [[1, True]]]


def test_an_event_field_cannot_hide_a_key_of_the_row(tmp_path):
    with pytest.raises(ValueError, match="run_id"):
        open_ledger(tmp_path).event("run.started", 0, {"run_id": "other"})


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_last_line_is_skipped_by_readers_and_repaired_on_resume(tmp_path, cut):
    write_run(tmp_path, 3)
    path = tmp_path / ledger.METRICS
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    complete = 4 if cut == 1 else 3  # without its newline alone, the last row is still a whole row
    assert len(rows_of(tmp_path)) == complete
    book = open_ledger(tmp_path, resume_step=3)
    book.metrics(4, "train", {"loss": 0.0})
    assert [row["step"] for row in rows_of(tmp_path)] == [*range(complete), 4]


def test_zeros_after_a_power_cut_are_a_torn_line(tmp_path):
    write_run(tmp_path, 2)
    with open(tmp_path / ledger.METRICS, "ab") as file:
        file.write(b"\0" * 4096)
    open_ledger(tmp_path, resume_step=2)
    assert [row["step"] for row in rows_of(tmp_path)] == [0, 1, 2]


def test_resume_forgets_what_came_after_the_checkpoint_and_keeps_the_life_of_the_run(tmp_path):
    write_run(tmp_path, 5)
    open_ledger(tmp_path, resume_step=3)
    assert [row["step"] for row in rows_of(tmp_path)] == [0, 1, 2, 3]
    kept = [(row["event"], row["step"]) for row in rows_of(tmp_path, ledger.EVENTS) if row["step"] > 2]
    assert kept == [
        ("data.quarantined", 3),
        ("sample", 3),
        ("checkpoint.saved", 3),
        ("checkpoint.saved", 4),
        ("checkpoint.saved", 5),
    ]


def test_starting_over_without_a_checkpoint_drops_every_metric_row(tmp_path):
    write_run(tmp_path, 2)
    open_ledger(tmp_path, resume_step=0)
    assert rows_of(tmp_path) == []
    assert {row["event"] for row in rows_of(tmp_path, ledger.EVENTS)} == {"run.started", "checkpoint.saved"}


def test_a_ledger_that_needs_no_repair_is_not_rewritten(tmp_path):
    write_run(tmp_path, 3)
    before = [(tmp_path / name).stat().st_ino for name in (ledger.METRICS, ledger.EVENTS)]
    open_ledger(tmp_path, resume_step=3)
    assert [(tmp_path / name).stat().st_ino for name in (ledger.METRICS, ledger.EVENTS)] == before


def test_kept_rows_are_copied_byte_for_byte(tmp_path):
    write_run(tmp_path, 3)
    before = (tmp_path / ledger.METRICS).read_bytes().splitlines()
    open_ledger(tmp_path, resume_step=2)
    assert (tmp_path / ledger.METRICS).read_bytes().splitlines() == before[:3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [ledger.EVENTS, ledger.METRICS]


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe", b"[1]", b'{"step": 1}', b""])
def test_damage_before_the_last_line_is_named_and_refused(tmp_path, damage):
    write_run(tmp_path, 3)
    path = tmp_path / ledger.METRICS
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]) + b"\n")
    before = path.read_bytes()
    with pytest.raises(AssetError, match=r"metrics\.ndjson line 2 is damaged"):
        open_ledger(tmp_path, resume_step=1)
    assert path.read_bytes() == before


def test_reading_stops_where_it_is_told(tmp_path):
    write_run(tmp_path, 2)
    book = open_ledger(tmp_path, resume_step=2)
    size, _ = book.sizes()
    book.metrics(3, "train", {"loss": 0.0})
    assert [row["step"] for row in ledger.read(tmp_path / ledger.METRICS, until=size)] == [0, 1, 2]


def test_a_missing_ledger_is_named(tmp_path):
    with pytest.raises(AssetError, match=r"metrics\.ndjson is missing"):
        rows_of(tmp_path)


def test_a_workdir_that_is_a_file_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(TrainingStopped, match=str(tmp_path / "run")):
        open_ledger(tmp_path / "run")


FILL = """
import resource, signal, sys
from pathlib import Path
from codex_jax.errors import TrainingStopped
from codex_jax.tracking import ledger

workdir, limit = Path(sys.argv[1]), int(sys.argv[2])
book = ledger.Ledger(workdir, run_id="r1", resume_step=0)
if limit:  # else the directory lies on a file system that is nearly full
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for step in range(1, 1_000_000):
    try:
        book.metrics(step, "train", {"loss": 1.0})
    except TrainingStopped as error:
        assert str(workdir / "metrics.ndjson") in str(error), error
        break
for filler in workdir.glob("filler"):
    filler.unlink()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
book.metrics(step, "train", {"loss": 2.0})
print(step)
"""


def fill(workdir, limit, wrap=()):
    command = [*wrap, sys.executable, "-c", FILL, str(workdir), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_row_beyond_the_size_limit_is_taken_back_and_the_next_one_fits(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    stopped_at = fill(tmp_path, 1000)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, stopped_at + 1))
    assert rows[-1]["metrics"] == {"loss": 2.0}


def test_a_full_disk_stops_with_whole_lines_and_goes_on_after_room_was_made(tmp_path):
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && head -c 40960 /dev/zero >{tmp_path}/filler"
        f' && "$@" && cp {tmp_path}/metrics.ndjson {tmp_path.parent}/kept.ndjson'
    )
    probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True)
    if probe.returncode:
        pytest.skip("this machine lets no one mount a tmpfs; the size limit above covers the same path")
    stopped_at = fill(tmp_path, 0, ["unshare", "-rm", "sh", "-c", script, "sh"])
    kept = tmp_path.parent / "kept.ndjson"
    kept.rename(tmp_path / ledger.METRICS)
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, stopped_at + 1))


def test_memory_does_not_grow_with_the_ledger(tmp_path):
    line = b'{"run_id":"r1","step":%d,"split":"train","time":1.0,"metrics":{"loss":1.0}}\n'
    with open(tmp_path / ledger.METRICS, "wb") as file:
        file.writelines(line % step for step in range(200_000))  # 16 MB
    program = (
        "import sys; from pathlib import Path; from codex_jax.tracking import ledger, system\n"
        "before = system.peak_rss_bytes(); ledger.Ledger(Path(sys.argv[1]), run_id='r1', resume_step=199_000)\n"
        "print(system.peak_rss_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4_000_000
    assert sum(1 for _ in ledger.read(tmp_path / ledger.METRICS)) == 199_001


def test_evaluation_that_is_owed_is_forgotten_and_nothing_else_of_its_step(tmp_path):
    book = open_ledger(tmp_path)
    for step in (4, 8):
        book.metrics(step, "train", {"loss": 1.0})
        book.metrics(step, "validation", {"loss": 1.0})
        book.metrics(step, "safety", {"redact/a": 1})
        book.event("safety.redacted", step, {"split": "train"})
        book.event("safety.redacted", step, {"stage": "output"})
        book.event("sample", step, {"name": "a", "text": "b"})
        book.event("checkpoint.saved", step, {})
    book.close()
    ledger.Ledger(tmp_path, run_id="r1", resume_step=8, owes_evaluation=True).close()
    assert [row["split"] for row in rows_of(tmp_path) if row["step"] == 8] == ["train"]
    left = [(row["event"], row.get("split")) for row in rows_of(tmp_path, ledger.EVENTS) if row["step"] == 8]
    assert left == [("safety.redacted", "train"), ("checkpoint.saved", None)]
    assert [
        len([row for row in rows_of(tmp_path, name) if row["step"] == 4]) for name in (ledger.METRICS, ledger.EVENTS)
    ] == [3, 4]
