"""The stream of batches: deterministic, resumable at every batch, every document accounted for."""

import itertools
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from corpora import TOKENIZER, opened, resolve, text, write_jsonl

from codex_jax import config
from codex_jax.data import pipeline
from codex_jax.data.batch import Batch
from codex_jax.data.report import Blocked, Quarantine, Quarantined, Report
from codex_jax.errors import AssetError, TrainingStopped


pytestmark = pytest.mark.data


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "rows.jsonl", range(60))


OFF = {"safety__enabled": False, "safety__bypass_reason": "a test"}


def settings_for(*paths: Path, **changes: Any) -> config.Config:
    return resolve(data__paths=tuple(map(str, paths)), **changes)


def open_stream(settings: config.Config, batch_size: int = 4) -> pipeline.TrainStream:
    return pipeline.train_stream(settings, opened(settings), TOKENIZER, batch_size)


def take(stream: pipeline.TrainStream, count: int) -> list[tuple[Batch, list[Report], dict[str, Any]]]:
    """Batches, each with the reports that came with it and the state after it as it would be read from a file."""
    return [(next(stream), stream.take_reports(), json.loads(json.dumps(stream.state()))) for _ in range(count)]


def first_batches(settings: config.Config, count: int, batch_size: int = 4) -> list[Batch]:
    stream = open_stream(settings, batch_size)
    taken = [batch for batch, _, _ in take(stream, count)]
    stream.close()
    return taken


def same(ours: Batch, theirs: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def first_epoch(settings: config.Config) -> Report:
    """What became of every document of one epoch."""
    stream, total = open_stream(settings, 1), Report()
    windows = stream.state()["window"]
    while windows < opened(settings)[0].corpus.num_bytes / settings.data.window_bytes:
        next(stream)
        windows = stream.state()["window"]
        for report in stream.take_reports():
            total.add(report)
    stream.close()
    return total


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resume_continues_exactly_at_every_batch_across_epochs(rows: Path, prefetch: int) -> None:
    settings = settings_for(rows, data__prefetch_batches=prefetch)
    stream = open_stream(settings)
    whole = take(stream, 60)
    stream.close()
    assert whole[-1][2]["window"] > 2 * 5  # two epochs and more
    resumed = open_stream(settings)
    for at in range(55):
        resumed.restore(whole[at][2])
        assert resumed.state() == whole[at][2]
        for batch, reports, state in take(resumed, 2):
            at += 1
            assert same(batch, whole[at][0])
            assert reports == whole[at][1]
            assert state == whole[at][2]
    resumed.close()


def test_resume_twice_in_a_row_equals_the_uninterrupted_run(rows: Path) -> None:
    settings = settings_for(rows)
    whole = take(open_stream(settings), 24)
    state, taken = None, []
    for count in (7, 9, 8):
        stream = open_stream(settings)
        if state:
            stream.restore(state)
        taken += take(stream, count)
        state = taken[-1][2]
        stream.close()
    assert all(same(ours[0], theirs[0]) and ours[1:] == theirs[1:] for ours, theirs in zip(taken, whole, strict=True))


@pytest.mark.slow
def test_worker_processes_change_neither_order_nor_resume(rows: Path) -> None:
    whole = take(open_stream(settings_for(rows)), 40)
    for workers in (1, 2):
        stream = open_stream(settings_for(rows, data__workers=workers))
        taken = take(stream, 17)
        stream.close()
        stream = open_stream(settings_for(rows, data__workers=workers))
        stream.restore(taken[-1][2])
        taken += take(stream, 23)
        stream.close()
        for ours, theirs in zip(taken, whole, strict=True):
            assert same(ours[0], theirs[0]) and ours[1:] == theirs[1:]


@pytest.mark.slow
def test_failure_in_a_worker_process_is_the_same_message(rows: Path) -> None:
    stream = open_stream(settings_for(rows, data__workers=1))
    rows.write_text("changed")
    with pytest.raises(AssetError, match=r"rows\.jsonl has changed"):
        next(stream)
    stream.close()


def workers_of(stream: pipeline.TrainStream) -> list[psutil.Process]:
    """The processes that prepare windows, once they are at work."""
    next(stream)
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_killed_worker_stops_training_and_names_the_setting(rows: Path) -> None:
    stream = open_stream(settings_for(rows, data__workers=1))
    for worker in workers_of(stream):
        worker.kill()
    with pytest.raises(TrainingStopped, match=r"a process of data\.workers=1 was killed.*set data\.workers=0"):
        take(stream, 500)
    stream.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signal_to_the_whole_group_does_not_end_the_workers(rows: Path, number: signal.Signals) -> None:
    whole = take(open_stream(settings_for(rows)), 60)
    stream = open_stream(settings_for(rows, data__workers=1))
    for worker in workers_of(stream):
        worker.send_signal(number)
    taken = take(stream, 59)
    workers = workers_of(stream)
    stream.close()
    assert all(same(ours[0], theirs[0]) for ours, theirs in zip(taken, whole[1:], strict=True))
    assert workers and not any(worker.is_running() for worker in workers)


def test_same_seed_gives_the_same_batches_and_another_seed_others(rows: Path) -> None:
    ours, again = (first_batches(settings_for(rows), 9) for _ in range(2))
    other = first_batches(settings_for(rows, run__seed=1), 9)
    assert all(map(same, ours, again))
    assert not any(map(same, ours, other))


def test_prefetch_and_chunks_of_the_tokenizer_change_nothing(rows: Path) -> None:
    ours = first_batches(settings_for(rows), 12)
    theirs = first_batches(settings_for(rows, data__encode_chunk_size=1, data__prefetch_batches=0), 12)
    assert all(map(same, ours, theirs))


def test_an_epoch_trains_each_document_of_the_split_once(rows: Path) -> None:
    settings = settings_for(rows)
    total = first_epoch(settings)
    assert (total.read, total.trained + total.held_out) == (60, 60)
    assert 0 < total.held_out < 30
    assert total.bytes == sum(len(text(n)) for n in range(60)) - held_out_bytes(settings)


def held_out_bytes(settings: config.Config) -> int:
    corpus = opened(settings)
    return pipeline.validation_batches(settings, corpus, TOKENIZER, 64)[1].bytes


def test_second_epoch_has_the_same_documents_in_another_order(rows: Path) -> None:
    stream = open_stream(settings_for(rows), 1)
    epochs: list[list[bytes]] = [[], []]
    windows = -(-rows.stat().st_size // 1024)
    while (window := stream.state()["window"]) < 2 * windows:
        epochs[window // windows].append(next(stream).tokens_BL.tobytes())
    stream.close()
    assert epochs[0] != epochs[1]
    reports = stream.take_reports()
    sizes = [sum(report.tokens for report in part) for part in (reports[:windows], reports[windows:])]
    assert sizes[0] == sizes[1]


def test_adding_a_file_moves_no_document_to_the_other_split(tmp_path: Path, rows: Path) -> None:
    more = write_jsonl(tmp_path / "more.jsonl", range(100, 160))
    held = []
    for paths in ([rows], [rows, more]):
        settings = settings_for(*paths, eval__num_batches=50)
        batches, report = pipeline.validation_batches(settings, opened(settings), TOKENIZER, 8)
        held.append("".join(TOKENIZER.decode(row) for batch in batches for row in batch.tokens_BL))
        assert report.trained + report.held_out == report.read == 60 * len(paths)
    before, after = ({n for n in range(60) if f"document {n}:" in joined} for joined in held)
    assert before and before == after


def test_validation_does_not_depend_on_the_seed_and_fills_up_with_padding(rows: Path) -> None:
    made = []
    for seed in (0, 1):
        settings = settings_for(rows, run__seed=seed, eval__num_batches=500)
        made.append(pipeline.validation_batches(settings, opened(settings), TOKENIZER, 7)[0])
    assert len(made[0]) == len(made[1]) and all(map(same, *made))
    assert all(batch.tokens_BL.shape == (7, 16) for batch in made[0])
    assert made[0][-1].weights_BL[-1].sum() == 0


def test_validation_stops_reading_when_it_has_enough(rows: Path) -> None:
    settings = settings_for(rows, eval__num_batches=1)
    batches, report = pipeline.validation_batches(settings, opened(settings), TOKENIZER, 2)
    assert len(batches) == 1 and report.read < 60


def test_validation_paths_leave_all_of_the_paths_to_training(tmp_path: Path, rows: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", range(900, 910))
    settings = settings_for(rows, data__validation_paths=(str(other),))
    corpus = opened(settings)
    assert pipeline.validation_batches(settings, corpus, TOKENIZER, 4)[1].trained == 10
    report = first_epoch(settings)
    assert (report.read, report.trained, report.held_out) == (60, 60, 0)


def test_empty_validation_split_names_the_setting(tmp_path: Path) -> None:
    settings = settings_for(write_jsonl(tmp_path / "few.jsonl", range(3)), data__validation_fraction=1e-6)
    with pytest.raises(AssetError, match=r"data\.validation_fraction=1e-06 holds out none of 3 documents"):
        pipeline.validation_batches(settings, opened(settings), TOKENIZER, 4)


def test_redacted_text_is_not_learnt_and_is_reported_without_its_text(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": f"before {secret} after"}) + "\n")
    settings = settings_for(path, data__validation_fraction=1e-9, data__sequence_length=64)
    stream = open_stream(settings, 1)
    batch, (report,) = next(stream), stream.take_reports()
    stream.close()
    shown = TOKENIZER.decode(batch.tokens_BL[0])
    assert "before [REDACTED:github-token] after" in shown and secret not in shown
    learnt = TOKENIZER.decode(batch.targets_BL[0][batch.weights_BL[0] > 0])
    assert "REDACTED" not in learnt and "after" in learnt
    (finding,) = report.findings
    assert (finding.rule, finding.file, finding.start, finding.end) == ("github-token", str(path), 7, 7 + len(secret))
    assert report.safety == {"redact/github-token": 1} and secret not in repr(report)


def test_document_that_is_all_secret_is_filtered(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", range(5))
    with open(path, "a") as file:
        file.write(json.dumps({"text": "ghp_" + "a1B2" * 9 + "\n"}) + "\n")
    stream = open_stream(settings_for(path, data__validation_fraction=1e-9), 1)
    next(stream)
    (report,) = stream.take_reports()
    stream.close()
    assert (report.read, report.trained, report.filtered) == (6, 5, 1)


@pytest.mark.parametrize("safety", [True, False])
def test_rows_without_text_are_filtered_however_many(tmp_path: Path, safety: bool) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", range(5))
    with open(path, "a") as file:
        file.write('{"text": ""}\n{"text": " \\n"}\n' * 3)
    stream = open_stream(
        settings_for(path, data__validation_fraction=1e-9, safety__enabled=safety, safety__bypass_reason="a test"), 1
    )
    next(stream)
    (report,) = stream.take_reports()
    stream.close()
    assert (report.read, report.trained, report.filtered, report.quarantined) == (11, 5, 6, 0)


def test_safety_switched_off_keeps_the_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "write to someone@example.com"}) + "\n")
    changes = {
        "data__validation_fraction": 1e-9,
        "data__sequence_length": 64,
        "safety__enabled": False,
        "safety__bypass_reason": "a test",
    }
    stream = open_stream(settings_for(path, **changes), 1)
    assert "someone@example.com" in TOKENIZER.decode(next(stream).tokens_BL[0])
    assert stream.fingerprint["data.safety"] == "off"
    stream.close()


def test_a_policy_that_changes_on_the_way_changes_neither_what_is_read_nor_what_is_said_of_it(tmp_path: Path) -> None:
    rules = tmp_path / "policy.yaml"
    path = write_jsonl(tmp_path / "rows.jsonl", range(9))
    rules.write_text("version: 1\nrules:\n  - {id: quick, literals: [quick]}\n")
    settings = settings_for(path, data__validation_fraction=1e-9, data__sequence_length=64, safety__policy=str(rules))
    mixture = opened(settings)
    rules.write_text("version: 1\nrules:\n  - {id: other, literals: [otherwise]}\n")
    stream = pipeline.train_stream(settings, mixture, TOKENIZER, 1)
    next(stream)
    (report,) = stream.take_reports()
    stream.close()
    assert set(report.safety) == {"redact/quick"}
    assert stream.fingerprint["data.safety"] == mixture[0].gate.content() != opened(settings)[0].gate.content()


@pytest.mark.parametrize("workers", [0, 1])
def test_block_that_stops_brings_what_was_found_in_its_document(tmp_path: Path, workers: int) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("version: 1\nextends: default\nrules:\n  - {id: deny, literals: [forbidden], action: block}\n")
    path = write_jsonl(tmp_path / "rows.jsonl", range(60))
    with open(path, "a") as file:
        file.write(json.dumps({"text": "of a@b.org, forbidden"}) + "\n")
    settings = settings_for(
        path,
        data__validation_fraction=1e-9,
        data__workers=workers,
        safety__policy=str(rules),
        safety__on_block="stop",
    )
    stream = open_stream(settings)
    with pytest.raises(Blocked, match=r"rows\.jsonl:61 .*: blocked by deny; take the document out") as stopped:
        for _ in range(200):
            next(stream)
    stream.close()
    report = stopped.value.report
    assert (report.read, report.blocked, report.safety) == (1, 1, {"redact/email": 1, "block/deny": 1})
    found = [(one.rule, one.action, one.start) for one in report.findings]
    assert found == [("email", "redact", 3), ("deny", "block", 12)]


def broken(path: Path, good: int, bad: int) -> Path:
    write_jsonl(path, range(good))
    with open(path, "a") as file:
        file.write("{broken\n" * bad)
    return path


def test_few_bad_rows_are_reported_and_the_rest_is_trained(tmp_path: Path) -> None:
    path = broken(tmp_path / "rows.jsonl", 300, 2)
    total = first_epoch(settings_for(path))
    assert (total.read, total.quarantined) == (302, 2)
    assert sorted(row.line for row in total.rows) == [301, 302]
    assert total.read == total.trained + total.held_out + total.filtered + total.quarantined


@pytest.mark.parametrize(("good", "bad"), [(300, 60), (9, 1), (0, 5)])
def test_too_many_bad_rows_stop_training_with_the_first_reasons(tmp_path: Path, good: int, bad: int) -> None:
    path = broken(tmp_path / "rows.jsonl", good, bad)
    stream = open_stream(settings_for(path, data__max_quarantined=0.05), 2)
    message = r"(?s)of \d+ documents.*max_quarantined=0\.05.*rows\.jsonl:\d+ .*not JSON"
    with pytest.raises(TrainingStopped, match=message):
        take(stream, 600)
    stream.close()


@pytest.mark.parametrize("seed", range(6))
def test_quarantine_is_judged_by_all_that_a_batch_has_opened(tmp_path: Path, seed: int) -> None:
    path = broken(tmp_path / "rows.jsonl", 300, 1)
    stream = open_stream(settings_for(path, data__max_quarantined=0.01, run__seed=seed), 600)
    next(stream)
    assert sum(report.read for report in stream.take_reports()) > 301
    stream.close()


def test_quarantine_names_the_events_when_the_rows_were_seen_before(tmp_path: Path) -> None:
    watch = Quarantine(0.1)
    watch.read, watch.quarantined = 900, 300
    with pytest.raises(TrainingStopped, match=r"300 of 1000 .*Their places are in events\.ndjson"):
        watch.check([Report(read=100)], complete=False)


def test_redactions_are_listed_in_the_first_epoch_and_counted_in_each(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"{text(n)} a{n}@example.com"}) + "\n" for n in range(60)))
    stream = open_stream(settings_for(path, data__validation_fraction=1e-9), 1)
    windows = -(-path.stat().st_size // 1024)
    while stream.state()["window"] < 2 * windows:
        next(stream)
    reports = stream.take_reports()
    stream.close()
    counts = [sum(report.safety["redact/email"] for report in reports[at : at + windows]) for at in (0, windows)]
    assert counts == [60, 60]
    assert [sum(len(report.findings) for report in reports[at : at + windows]) for at in (0, windows)] == [60, 0]


def test_bad_rows_are_listed_in_the_first_epoch_and_counted_in_each(tmp_path: Path) -> None:
    path = broken(tmp_path / "rows.jsonl", 100, 3)
    stream = open_stream(settings_for(path, data__max_quarantined=0.1), 1)
    windows = -(-path.stat().st_size // 1024)
    while stream.state()["window"] < 2 * windows:
        next(stream)
    reports = stream.take_reports()
    stream.close()
    epochs = [reports[at : at + windows] for at in (0, windows)]
    assert [sum(report.quarantined for report in epoch) for epoch in epochs] == [3, 3]
    assert [sum(len(report.rows) for report in epoch) for epoch in epochs] == [3, 0]


def test_quarantine_quotes_rows_of_the_first_epoch_in_a_later_one() -> None:
    watch, row = Quarantine(0.1), Quarantined("rows.jsonl", 1, 0, "not JSON")
    watch.check([Report(read=990, trained=890, quarantined=90, rows=[row])], complete=True)
    with pytest.raises(TrainingStopped, match=r"(?s)110 of 1010 .*Some of them:\n  rows\.jsonl:1 .*not JSON"):
        watch.check([Report(read=20, quarantined=20)], complete=True)


def test_quarantine_is_judged_at_the_same_batch_after_a_resume(tmp_path: Path) -> None:
    settings = settings_for(broken(tmp_path / "rows.jsonl", 300, 60), data__max_quarantined=0.05)

    def last_state(stream: pipeline.TrainStream) -> dict[str, Any]:
        state = stream.state()
        with pytest.raises(TrainingStopped):
            while True:
                next(stream)
                state = stream.state()
        stream.close()
        return state

    stream = open_stream(settings, 1)
    early = take(stream, 3)[-1][2]
    resumed = open_stream(settings, 1)
    resumed.restore(early)
    assert last_state(stream) == last_state(resumed)


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "ghp_" + "a1B2" * 9}) + "\n")
    stream = open_stream(settings_for(path, data__validation_fraction=1e-9), 1)
    with pytest.raises(
        AssetError, match=r"no document to train on: of 1 read, 0 are held out.*1 held no text or nothing but"
    ):
        next(stream)
    stream.close()


def test_position_of_other_data_is_refused_naming_what_differs(tmp_path: Path, rows: Path) -> None:
    state = take(open_stream(settings_for(rows)), 2)[-1][2]
    other = settings_for(write_jsonl(tmp_path / "other.jsonl", range(70)), run__seed=3)
    with pytest.raises(AssetError, match=r"(?s)other data:.*corpus: .*data\.seed: 0 in the checkpoint, 3 now"):
        open_stream(other).restore(state)
    for damage in ({"window": -1}, {"row": None}, {"read": "x"}):
        with pytest.raises(AssetError, match="the saved position has"):
            open_stream(settings_for(rows)).restore({**state, **damage})


def test_position_with_other_validation_files_is_refused(tmp_path: Path, rows: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", range(900, 910))
    settings = settings_for(rows, data__validation_paths=(str(other),))
    state = take(open_stream(settings), 2)[-1][2]
    open_stream(settings).restore(state)
    write_jsonl(other, range(900, 911))
    with pytest.raises(AssetError, match=r"(?s)other data:\n.*  data\.validation: "):
        open_stream(settings).restore(state)


def test_workers_prefetch_and_batch_size_may_change_at_a_resume(rows: Path) -> None:
    state = take(open_stream(settings_for(rows)), 3)[-1][2]
    stream = open_stream(settings_for(rows, data__prefetch_batches=5, data__encode_chunk_size=3), 2)
    stream.restore(state)
    (whole,) = first_batches(settings_for(rows), 4)[3:]
    assert np.array_equal(next(stream).tokens_BL, whole.tokens_BL[:2])
    stream.close()


def test_tokenizer_trained_on_the_corpus_sees_neither_secrets_nor_validation(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"word{n} someone@example.com " * 5} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = settings_for(path, tokenizer__vocab_size=600)
    corpus = opened(settings)
    made = pipeline.make_tokenizer(settings, corpus)
    assert made.digest == pipeline.make_tokenizer(settings, corpus).digest
    vocabulary = {made.decode([index]) for index in range(made.vocab_size)}
    assert " word" in vocabulary or "word" in vocabulary
    assert not any("someone" in token or "example" in token or "REDACTED" in token for token in vocabulary)


@pytest.mark.parametrize("name", ["rows.jsonl", "book.txt"])
def test_cached_tokenizer_is_the_one_its_settings_would_train(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    path = write_jsonl(tmp_path / name, range(400))
    changes = {"tokenizer__train_bytes": 2000, "tokenizer__vocab_size": 400}
    digests = {}
    for cache in ("shared", "shared", "alone"):
        monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path / cache))
        settings = settings_for(path, data__window_bytes=65_536 if digests else 1024, **changes)
        digests[cache] = pipeline.make_tokenizer(settings, opened(settings)).digest
    assert digests["shared"] == digests["alone"]


def test_window_of_rows_draws_on_many_places(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", range(6000))
    settings = settings_for(path, data__window_bytes=65_536, data__sequence_length=64)
    stream = open_stream(settings, 1)
    shown = "".join(TOKENIZER.decode(next(stream).tokens_BL[0]) for _ in range(300))
    stream.close()
    numbers = sorted(map(int, re.findall(r"document (\d+):", shown)))
    assert numbers[0] < 1000 and numbers[-1] > 5000
    gaps = sum(after - before > 20 for before, after in itertools.pairwise(numbers))
    assert gaps > 15


def test_text_file_is_trained_or_held_out_to_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {n}: {text(n)}\n" for n in range(80)))
    settings = settings_for(path, eval__num_batches=999)
    report = first_epoch(settings)
    assert report.held_out > 0 and report.trained + report.held_out == report.read
    assert report.bytes + held_out_bytes(settings) == path.stat().st_size
