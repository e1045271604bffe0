import csv
import errno
import math
import os
import subprocess
import sys
import threading
import time

import pytest
import small_writer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from codex_jax import digest
from codex_jax.errors import Interrupted
from codex_jax.tracking import guard, ledger
from codex_jax.tracking.sink import Sink, why
from codex_jax.tracking.writer import Writer


pytestmark = pytest.mark.infra


def open_run(workdir, *sinks, resume_step=0):
    return small_writer.switched_on(workdir, {f"{name}.enabled": True for name in sinks}, resume_step=resume_step)


def write_steps(writer, first, last, shift=0.0):
    for step in range(first, last + 1):
        writer.scalars(step, "train", {"loss": 8 / step + shift, "grad_norm": math.nan if step == 2 else 1.0})
        writer.scalars(step, "speed", {"tokens_per_sec": 1000 * step + shift})
        writer.text(step, "default", f"sample {step}\n<b>é")
        writer.sync()


def values_of_ledger(workdir):
    return {
        (row["step"], f"{row['split']}/{name}"): value
        for row in ledger.read(workdir / ledger.METRICS)
        for name, value in row["metrics"].items()
    }


def values_of_csv(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {(int(row["step"]), f"{row['split']}/{row['name']}"): row["value"] for row in rows}
    assert len(values) == len(rows), "a step is there twice"
    return {key: None if value == "nan" else float(value) for key, value in values.items()}


def values_of_tensorboard(workdir):
    events = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    points = [(event.step, name, event.value) for name in events.Tags()["scalars"] for event in events.Scalars(name)]
    values = {(step, name): None if math.isnan(value) else value for step, name, value in points}
    assert len(values) == len(points), "a step is there twice"
    texts = [event.step for event in events.Tensors("sample/default/text_summary")]
    return values, texts


def events_of(workdir, name):
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == name]


def assert_replicas_agree(workdir):
    expected = values_of_ledger(workdir)
    assert expected
    assert values_of_csv(workdir) == expected
    (_,) = (workdir / "tensorboard").iterdir()  # nothing of an earlier process
    values, texts = values_of_tensorboard(workdir)
    assert values.keys() == expected.keys()
    for key, value in expected.items():  # TensorBoard holds float32
        assert values[key] == (None if value is None else pytest.approx(value, rel=1e-6))
    assert texts == [row["step"] for row in events_of(workdir, "sample")]


def test_csv_and_tensorboard_agree_with_the_ledger(tmp_path):
    with open_run(tmp_path, "csv", "tensorboard") as writer:
        write_steps(writer, 1, 20)
    assert_replicas_agree(tmp_path)


def test_they_agree_after_a_resume_that_forgets_steps(tmp_path):
    with open_run(tmp_path, "csv", "tensorboard") as writer:
        write_steps(writer, 1, 9)
    (first,) = (tmp_path / "tensorboard").iterdir()
    first = first.rename(first.with_name("events.out.tfevents.1.host"))  # as one of more than a second ago is called
    read_before = first.read_bytes()
    with open_run(tmp_path, "csv", "tensorboard", resume_step=5) as writer:
        write_steps(writer, 6, 8, shift=0.5)
    assert max(values_of_ledger(tmp_path)) == (8, "train/loss")
    assert_replicas_agree(tmp_path)
    first.write_bytes(read_before)  # a TensorBoard that was looking on has read both
    assert values_of_tensorboard(tmp_path)[0].keys() == values_of_ledger(tmp_path).keys()


def test_they_agree_when_a_replica_was_lost_before_the_resume(tmp_path):
    with open_run(tmp_path, "csv") as writer:
        write_steps(writer, 1, 4)
    (tmp_path / "metrics.csv").write_text("rubbish")
    with open_run(tmp_path, "csv", "tensorboard", resume_step=4) as writer:
        write_steps(writer, 5, 6)
    assert_replicas_agree(tmp_path)


def test_the_tidy_table_has_the_documented_columns(tmp_path):
    with open_run(tmp_path, "csv") as writer:
        writer.scalars(1, "train", {'a,"b"\n': 0.1})
    row = next(ledger.read(tmp_path / ledger.METRICS))
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["step", "split", "name", "value", "time"],
            ["1", "train", 'a,"b"\n', "0.1", str(row["time"])],
        ]


def test_a_switched_off_sink_leaves_no_file(tmp_path):
    with open_run(tmp_path) as writer:
        write_steps(writer, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ledger.EVENTS, ledger.METRICS]


@pytest.mark.parametrize("interface", [Sink, Writer])
def test_an_interface_cannot_be_made(interface):
    with pytest.raises(TypeError, match="abstract"):
        interface()


class Recording(Sink):
    """Keeps what it is given; `trouble` is called on every row."""

    def __init__(self, trouble=lambda: None):
        self.trouble = trouble
        self.rows = []
        self.status = None

    def scalars(self, step, split, values, time):
        self.trouble()
        self.rows += [(step, f"{split}/{name}", value) for name, value in values.items()]

    def text(self, step, name, text, time):
        self.rows.append((step, name, text))

    def flush(self):
        pass

    def close(self, status):
        self.status = status


def kind_of(sink):
    """Return a class of sinks that are `sink`."""

    class Kind(Recording):
        def __init__(self, source):
            self.__dict__ = sink.__dict__

    return Kind


def write_to(workdir, sinks, *, resume_step=0, close_secs=10.0):
    kinds = {name: kind_of(sink) for name, sink in sinks.items()}
    return small_writer.bare(workdir, kinds, resume_step=resume_step, close_secs=close_secs)


def fail():
    raise OSError("no route to anywhere")


class Unopenable(Recording):
    def __init__(self, source):
        fail()


def test_a_raising_sink_is_dropped_with_one_event_and_the_others_get_every_row(tmp_path, caplog):
    good, bad = Recording(), Recording(fail)
    with write_to(tmp_path, {"bad": bad, "good": good}) as writer:
        for step in range(1, 51):
            writer.scalars(step, "train", {"loss": 1.0})
    assert [step for step, _, _ in good.rows] == list(range(1, 51))
    assert [(row["sink"], row["reason"]) for row in events_of(tmp_path, "sink.degraded")] == [
        ("bad", "OSError: no route to anywhere")
    ]
    assert caplog.text.count("bad is dropped") == 1
    assert (good.status, bad.status) == ("finished", "failed")


def test_a_sink_that_cannot_open_is_dropped_and_does_not_delay_the_end(tmp_path):
    started = time.monotonic()
    with small_writer.bare(tmp_path, {"bad": Unopenable}) as writer:
        writer.scalars(1, "train", {"loss": 1.0})
    assert time.monotonic() - started < 5
    assert len(events_of(tmp_path, "sink.degraded")) == 1


def test_what_a_sink_says_of_its_failure_is_written_as_a_file_may_hold_it(tmp_path):
    def shown(value):
        return {**value, "reason": value["reason"].replace("route", "***")}

    with small_writer.bare(tmp_path, {"bad": Unopenable}, outward=shown) as writer:
        writer.scalars(1, "train", {"loss": 1.0})
    (event,) = events_of(tmp_path, "sink.degraded")
    assert event["reason"] == "OSError: no *** to anywhere"


def test_a_hanging_sink_delays_neither_a_step_nor_the_end_for_long(tmp_path):
    release = threading.Event()
    hanging, good = Recording(lambda: release.wait(60)), Recording()
    started = time.monotonic()
    with write_to(tmp_path, {"hanging": hanging, "good": good}, close_secs=0.5) as writer:
        for step in range(1, 101):
            writer.scalars(step, "train", {"loss": 1.0})
        assert time.monotonic() - started < 0.5
    took = time.monotonic() - started
    release.set()
    assert 0.5 <= took < 3
    assert len(good.rows) == 100
    (event,) = events_of(tmp_path, "sink.degraded")
    assert (event["sink"], "given up" in event["reason"]) == ("hanging", True)


def test_sinks_open_one_after_the_other():
    opening, seen = [], []

    def open_sink():
        opening.append(1)
        time.sleep(0.05)
        seen.append(len(opening))
        opening.pop()
        return Recording()

    guards = [guard.Guard(name, open_sink, iter(())) for name in "abc"]
    for one in guards:
        one.finish("finished")
        one.join(time.monotonic() + 10)
    assert seen == [1, 1, 1] and [one.problem for one in guards] == ["", "", ""]


def test_a_sink_opens_although_another_hangs_while_it_opens(monkeypatch):
    monkeypatch.setattr(guard, "ALONE_SECS", 0.1)
    release, entered, sink = threading.Event(), threading.Event(), Recording()

    def hang():
        entered.set()
        release.wait(60)
        return Recording()

    hanging = guard.Guard("hanging", hang, iter(()))
    entered.wait(60)
    good = guard.Guard("good", lambda: sink, iter(()))
    good.put("scalars", 1, "train", {"loss": 1.0}, 0.0)
    good.finish("finished")
    good.join(time.monotonic() + 10)
    assert (good.problem, len(sink.rows), sink.status) == ("", 1, "finished")
    release.set()
    hanging.finish("finished")
    hanging.join(time.monotonic() + 10)


def test_a_long_reason_keeps_its_cause_which_comes_last():
    error = ValueError("no answer\nfrom http://localhost " + "x" * 1000 + " [Errno 111] Connection refused")
    told = why(error)
    assert told.startswith("ValueError: no answer from http://localhost x") and len(told) < 330
    assert told.endswith(" [Errno 111] Connection refused")
    assert why(ValueError("short")) == "ValueError: short"


def test_a_full_queue_drops_and_counts_rows(caplog):
    release, entered = threading.Event(), threading.Event()

    def stall():
        entered.set()
        release.wait(60)

    sink = Recording(stall)
    guarded = guard.Guard("slow", lambda: sink, iter(()), capacity=5)
    guarded.put("scalars", 0, "train", {"loss": 0.0}, 0.0)
    entered.wait(60)
    for step in range(1, 21):
        guarded.put("scalars", step, "train", {"loss": 0.0}, 0.0)
    assert guarded.dropped == 15
    assert caplog.text.count("slow is too slow") == 1
    release.set()
    guarded.finish("finished")
    guarded.join(time.monotonic() + 10)
    assert [step for step, _, _ in sink.rows] == list(range(6))
    assert (sink.status, guarded.problem) == ("finished", "")


def test_what_a_slow_sink_missed_is_counted_in_one_event_and_missing_nowhere_else(tmp_path):
    release, last = threading.Event(), guard.CAPACITY + 100
    slow, good = Recording(lambda: release.wait(60)), Recording()
    with write_to(tmp_path, {"slow": slow, "good": good}) as writer:
        for step in range(1, last + 1):
            writer.scalars(step, "train", {"loss": 1.0})
        release.set()
    (event,) = events_of(tmp_path, "sink.dropped")
    assert event["sink"] == "slow" and 0 < event["calls"] == last - len(slow.rows)
    assert len(good.rows) == len(values_of_ledger(tmp_path)) == last
    assert (slow.status, events_of(tmp_path, "sink.degraded")) == ("finished", [])


def test_what_is_no_number_is_a_file_or_counts_that_an_event_describes(tmp_path):
    with small_writer.bare(tmp_path) as writer:
        (tmp_path / "matrix.json").write_text("[[1, 2], [3, 4]]")
        writer.artifact(3, "confusion", tmp_path / "matrix.json")
        writer.histogram(4, "weights/wte", [0.0, 0.5, 1.0], [3, 4])
    (file,), (counts,) = events_of(tmp_path, "artifact"), events_of(tmp_path, "histogram")
    sha256 = digest.of_file(tmp_path / "matrix.json")
    described = {"run_id": "r1", "step": 3, "name": "confusion", "file": "matrix.json", "sha256": sha256}
    assert {name: file[name] for name in described} == described
    described = {"run_id": "r1", "step": 4, "name": "weights/wte", "edges": [0.0, 0.5, 1.0], "counts": [3, 4]}
    assert {name: counts[name] for name in described} == described


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("boom"), "failed"), (KeyboardInterrupt(), "failed"), (Interrupted("stop"), "interrupted")],
)
def test_an_exception_passes_through_unchanged_and_closes_every_sink(tmp_path, error, status):
    sinks = {"a": Recording(), "b": Recording()}
    with pytest.raises(type(error)) as caught, write_to(tmp_path, sinks) as writer:
        writer.scalars(1, "train", {"loss": 1.0})
        raise error
    assert caught.value is error
    assert error.__context__ is None
    assert [sink.status for sink in sinks.values()] == [status, status]
    assert [len(sink.rows) for sink in sinks.values()] == [1, 1]


def test_that_the_ledger_cannot_be_closed_either_does_not_hide_why_the_run_ended(tmp_path, monkeypatch, caplog):
    def refuse(number):
        raise OSError(errno.EIO, "Input/output error")

    error, sink = RuntimeError("boom"), Recording()
    with pytest.raises(RuntimeError) as caught, write_to(tmp_path, {"a": sink}) as writer:
        writer.scalars(1, "train", {"loss": 1.0})
        monkeypatch.setattr(os, "fsync", refuse)
        raise error
    assert caught.value is error and sink.status == "failed"
    assert "while closing the ledger: " in caplog.text and "Input/output error" in caplog.text


def test_closing_twice_is_closing_once(tmp_path):
    sink = Recording()
    with write_to(tmp_path, {"a": sink}) as writer:
        writer.close("interrupted")
    assert sink.status == "interrupted"


def test_a_sink_gets_the_history_of_the_ledger_before_live_rows(tmp_path):
    with write_to(tmp_path, {}) as writer:
        write_steps(writer, 1, 3)
    sink = Recording()
    with write_to(tmp_path, {"a": sink}, resume_step=2) as writer:
        writer.scalars(3, "train", {"loss": 1.0})
    numbers = [(step, name) for step, name, _ in sink.rows if "/" in name]
    assert numbers[-1] == (3, "train/loss")
    assert {step for step, _ in numbers[:-1]} == {1, 2}
    assert [step for step, name, _ in sink.rows if name == "default"] == [1, 2]
    assert math.isnan(next(value for step, name, value in sink.rows if (step, name) == (2, "train/grad_norm")))


HANG = """
import sys, threading
from pathlib import Path
import small_writer
from codex_jax.tracking.sinks.csv_file import CsvSink

class Hanging(CsvSink):
    def scalars(self, *row):
        threading.Event().wait()

with small_writer.bare(Path(sys.argv[1]), {"hanging": Hanging}, close_secs=0.1) as writer:
    writer.scalars(1, "train", {"loss": 1.0})
"""


def test_a_process_ends_although_a_sink_hangs_for_ever(tmp_path):
    command = [sys.executable, "-c", HANG, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0, done.stderr
    assert "hanging is dropped" in done.stderr
