"""Compressed files: the same documents as of plain ones, in batches, in a store, and up to where they are damaged."""

import csv
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_writer
import stores
import zstandard
from corpora import TOKENIZER, opened, resolve, text, write_jsonl

from codex_jax import cache, console
from codex_jax.cli import app
from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout, pipeline, plan
from codex_jax.data.batch import Batch
from codex_jax.data.documents import Document
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.errors import AssetError, TrainingStopped
from codex_jax.journal import accounts
from codex_jax.safety import policy
from codex_jax.safety.gate import Gate
from codex_jax.tracking import ledger, writer


pytestmark = pytest.mark.data

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}


def compressed(path: Path, suffix: str, *, members: int = 1) -> Path:
    """A compressed copy beside a file, in several members or frames."""
    content, made = path.read_bytes(), path.with_name(path.name + suffix)
    step = -(-len(content) // members)
    made.write_bytes(b"".join(COMPRESS[suffix](content[at : at + step]) for at in range(0, len(content), step)))
    return made


def read(*paths: Path, order: Callable[[range], Any] = list, **changes: Any) -> tuple[list[Document], Report]:
    """All documents, and what became of what was read."""
    data = resolve(data__paths=tuple(map(str, paths)), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    found = [entry.row for entry in corpus.read(order(range(corpus.num_units)), data)]
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=policy.default()), split="all", layout=layout.contents)
    list(reader.read(range(corpus.num_units), report))
    return [row for row in found if isinstance(row, Document)], report


def write_csv(path: Path, numbers: range) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "n"), *((text(number) + ' "a,\nb"', number) for number in numbers)])
    return path


def write_text(path: Path, numbers: range) -> Path:
    path.write_text("".join(f"{text(number)}\n" * (number % 3) + "word" * (number % 50) for number in numbers))
    return path


WRITE = {"a.jsonl": write_jsonl, "a.ndjson": write_jsonl, "a.csv": write_csv, "a.txt": write_text, "a.md": write_text}


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("members", [1, 40])
def test_documents_are_those_of_the_plain_file(tmp_path: Path, name: str, suffix: str, members: int) -> None:
    plain = WRITE[name](tmp_path / name, range(700))
    whole, counts = read(plain)
    found, report = read(compressed(plain, suffix, members=members))
    assert [row._replace(line=None) for row in found] == [row._replace(line=None) for row in whole]
    assert (report.read, report.trained, report.bytes) == (counts.read, counts.trained, counts.bytes)
    if name != "a.csv":
        content = plain.read_bytes()
        assert all(row.line == content.count(b"\n", 0, row.offset) + 1 for row in found)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_bad_rows_have_the_places_of_the_plain_file(tmp_path: Path, suffix: str, name: str) -> None:
    plain = WRITE[name](tmp_path / name, range(300))
    lines = plain.read_bytes().split(b"\n")
    for place, line in ((150, b"\xff" * 20), (100, b'{"text": "\\ud800"}'), (50, b'{"text": "' + b"x" * 3000 + b'"}')):
        lines.insert(place, line)
    plain.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    rows = [read(path, data__max_line_bytes=2000)[1].rows for path in (plain, compressed(plain, suffix, members=3))]
    assert [row._replace(file="") for row in rows[0]] == [row._replace(file="") for row in rows[1]] != []
    assert len(rows[0]) == (3 if name == "a.jsonl" else 1)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_row_of_megabytes_costs_no_other(tmp_path: Path, suffix: str, name: str) -> None:
    rows = "text\nfirst\n%s\nlast\n" if name == "a.csv" else '{"text": "first"}\n%s\n{"text": "last"}\n'
    (tmp_path / name).write_text(rows % ("x" * 5_000_000))
    found, report = read(compressed(tmp_path / name, suffix), data__max_line_bytes=1_000_000)
    assert [row.parts[0].text for row in found] == ["first", "last"]
    number = 3 if name == "a.csv" else 2
    assert [(row.line, row.reason) for row in report.rows] == [(number, "longer than data.max_line_bytes=1000000")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_units_may_be_asked_for_in_any_order(tmp_path: Path, suffix: str) -> None:
    path = compressed(write_jsonl(tmp_path / "a.jsonl", range(2000)), suffix, members=50)
    whole, _ = read(path)
    back, _ = read(path, order=reversed)
    odd, _ = read(path, order=lambda units: [*units[1::2], *units[::2]])
    assert len(whole) == 2000
    assert sorted(whole) == sorted(back) == sorted(odd) and whole != back != odd


def test_compressed_and_plain_files_of_a_directory_glob_or_list_are_one_corpus(tmp_path: Path) -> None:
    parts = [write_jsonl(tmp_path / f"{name}.jsonl", numbers) for name, numbers in NUMBERS.items()]
    for path, suffix in zip(parts[:2], COMPRESS, strict=True):
        compressed(path, suffix)
        path.unlink()
    (tmp_path / "empty.jsonl.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "nothing.jsonl.zst").touch()
    wanted = {text(number) for number in range(300)}
    listed = [path for path in tmp_path.iterdir() if path.stat().st_size]
    for paths in ([tmp_path], [tmp_path / "*.jsonl*"], listed):
        assert {row.parts[0].text for row in read(*paths)[0]} == wanted


NUMBERS = {"x y": range(100), "🙂\n": range(100, 200), "plain": range(200, 300)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", b"", "a.jsonl.gz is empty"),
        ("a.jsonl.gz", gzip.compress(b""), "is empty"),
        ("a.txt.zst", zstandard.compress("some text".encode("utf-16")), "a.txt.zst is UTF-16 or UTF-32"),
        ("a.txt.gz", gzip.compress("some text".encode("utf-16-le") * 9), "NUL: it is UTF-16"),
        ("a.parquet.gz", b"PAR1", "a.parquet.gz is compressed, which data.source=parquet cannot read"),
    ],
)
def test_file_that_is_none_is_refused_as_if_it_were_plain(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AssetError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [b" \n\r\n\t\n", b"\n" * 5000])
def test_white_space_alone_holds_no_document(tmp_path: Path, content: bytes) -> None:
    for name in ("a.jsonl.gz", "a.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(content))
    assert read(tmp_path / "a.jsonl.gz")[1].read == 0
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    report = read(tmp_path / "a.txt.gz")[1]
    assert report.read == report.filtered > 0


@pytest.mark.parametrize("suffix", COMPRESS)
def test_size_is_that_of_the_text(tmp_path: Path, suffix: str) -> None:
    plain = write_jsonl(tmp_path / "a.jsonl", range(60_000))
    path = compressed(plain, suffix, members=7)
    assert path.stat().st_size > 65_536
    corpus = corpora_of.open_corpus(settings_for(path).data, "data")
    assert corpus.num_bytes == pytest.approx(plain.stat().st_size, rel=0.1)


# Damage

HEADERS = {".gz": 10, ".zst": 4}


def broken(path: Path, suffix: str, how: str) -> tuple[Path, int]:
    """A damaged copy of 1,000 rows, and how many of them lie before the damage."""
    plain = write_jsonl(path / "a.jsonl", range(1000))
    lines = plain.read_bytes().splitlines(keepends=True)
    first, second = (COMPRESS[suffix](b"".join(part)) for part in (lines[:600], lines[600:]))
    made = path / f"a.jsonl{suffix}"
    ends = {
        "cut": first + second[:30],
        "garbage": first + b"GARBAGE" * 9,
        "torn": first + first[: HEADERS[suffix]] + b"\xff" * 300,
    }
    made.write_bytes(ends[how])
    return made, 600


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("how", ["cut", "garbage", "torn"])
def test_rows_before_the_damage_are_delivered_and_the_rest_is_one_bad_row(
    tmp_path: Path, suffix: str, how: str
) -> None:
    path, before = broken(tmp_path, suffix, how)
    whole, report = read(path)
    assert [row.parts[0].text for row in whole][:before] == [text(number) for number in range(before)]
    (bad,) = report.rows
    assert bad.ends_file and bad.file == str(path) and report.quarantined == 1
    assert bad.offset >= sum(len(json.dumps({"text": text(number)})) + 1 for number in range(before))
    assert bad.line >= before + 1
    assert (f" of {path.stat().st_size:,} as they are on disk: it " in bad.reason) == (how != "cut")
    if how == "cut":  # nobody knows how much there was
        assert " is not read: it was cut off" in bad.reason
    else:
        assert 0 < int(bad.reason.split(", ")[1].split(" byte")[0].replace(",", "")) <= 300


def test_run_goes_on_after_a_damaged_file_and_the_counts_add_up(tmp_path: Path) -> None:
    _, before = broken(tmp_path, ".zst", "garbage")
    write_jsonl(tmp_path / "a.jsonl", range(1000, 1400))
    settings = resolve(data__paths=(str(tmp_path),), data__max_quarantined=0.01)
    total = epoch(settings)
    assert (total.read, total.quarantined, total.filtered) == (before + 401, 1, 0)
    assert total.trained + total.held_out == before + 400
    with pytest.raises(TrainingStopped, match=r"1 of 1001 documents.*(?s:.*)the rest of the file is not read"):
        epoch(resolve(data__paths=(str(tmp_path),), data__max_quarantined=0.0))


def epoch(settings: Any) -> Report:
    """What became of every document of one epoch."""
    mixture = opened(settings)
    windows = -(-mixture[0].corpus.num_bytes // settings.data.window_bytes)
    stream, total = pipeline.train_stream(settings, mixture, TOKENIZER, 1), Report()
    try:
        while stream.state()["window"] < windows:
            next(stream)
            for report in stream.take_reports():
                total.add(report)
    finally:
        stream.close()
    return total


# Batches


@pytest.fixture(params=["a.jsonl.zst", "a.csv", "a.txt.gz"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A directory of four files that can only be read forwards."""
    name, _, suffix = request.param.rpartition(".") if request.param.count(".") > 1 else (request.param, "", "")
    for number in range(4):
        path = WRITE[name](tmp_path / f"{number}{name}", range(number * 100, number * 100 + 40 + number * 20))
        if suffix:
            compressed(path, f".{suffix}", members=3)
            path.unlink()
    return tmp_path


def settings_for(path: Path, **changes: Any) -> Any:
    return resolve(data__paths=(str(path),), **changes)


def open_stream(settings: Any, batch_size: int = 4) -> Any:
    return pipeline.train_stream(settings, opened(settings), TOKENIZER, batch_size)


def take(stream: Any, count: int) -> list[tuple[Batch, list[Report], dict[str, Any]]]:
    return [(next(stream), stream.take_reports(), json.loads(json.dumps(stream.state()))) for _ in range(count)]


def same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return ours[1:] == theirs[1:] and all(map(np.array_equal, ours[0], theirs[0]))


def test_resume_is_exact_at_every_batch_across_epochs(files: Path) -> None:
    stream = open_stream(settings_for(files), 32)
    whole = take(stream, 220)
    stream.close()
    windows = len({state["window"] for _, _, state in whole})
    assert windows > -(-opened(settings_for(files))[0].corpus.num_bytes // 1024)
    resumed = open_stream(settings_for(files), 32)
    for at in range(0, 218, 9):
        resumed.restore(whole[at][2])
        assert all(map(same, take(resumed, 2), whole[at + 1 : at + 3]))
    resumed.close()


@pytest.mark.slow
def test_worker_processes_change_neither_order_nor_resume(files: Path) -> None:
    stream = open_stream(settings_for(files))
    whole = take(stream, 60)
    stream.close()
    for workers in (1, 2):
        stream = open_stream(settings_for(files, data__workers=workers))
        taken = take(stream, 17)
        stream.close()
        stream = open_stream(settings_for(files, data__workers=workers))
        stream.restore(taken[-1][2])
        taken += take(stream, 43)
        stream.close()
        assert all(map(same, taken, whole))


def test_every_epoch_reads_each_document_once_files_shuffled_and_each_in_order(files: Path) -> None:
    settings = settings_for(files)
    (part,) = opened(settings)
    corpus, order = part.corpus, pipeline.train_stream(settings, (part,), TOKENIZER, 1)._build.order
    seen = set()
    for number in range(4):
        windows = range(number * order.num_windows, (number + 1) * order.num_windows)
        units = [unit for window in windows for unit in order.units(window)[0]]
        assert sorted(units) == list(range(corpus.num_units))
        files_of = np.searchsorted(corpus.ends_F, units, "right").tolist()
        seen.add(tuple(file for file, _ in itertools.groupby(files_of)))
        assert all(after == before + 1 for before, after in itertools.pairwise(units) if after not in starts(corpus))
    assert len(seen) > 1 and all(len(one) == 4 for one in seen)


def starts(corpus: corpora_of.Corpus) -> set[int]:
    return {0, *corpus.ends_F.tolist()}


def test_position_of_a_shuffled_order_is_refused(files: Path) -> None:
    stream = open_stream(settings_for(files))
    state = json.loads(json.dumps(stream.state()))
    del state["fingerprint"]["data.order"]
    with pytest.raises(AssetError, match=r"data\.order: nothing in the checkpoint, 'files, each read forwards' now"):
        stream.restore(state)
    stream.close()


# Stores


@pytest.mark.parametrize("suffix", COMPRESS)
def test_store_has_the_documents_of_one_of_the_plain_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)
    plain = write_jsonl(tmp_path / "a.jsonl", range(200))
    made = [
        stores.build(stores.settings_for(path, tmp_path / path.suffix, data__workers=workers))
        for path, workers in ((plain, 0), (compressed(plain, suffix, members=20), 0))
    ]
    assert len(made[1].numbers("train")) > 3
    for split in plan.SPLITS:
        tokens, counts = zip(*(whole(one, split) for one in made), strict=True)
        assert tokens[0] == tokens[1] and counts[0] == counts[1]


def whole(made: Any, split: str) -> tuple[bytes, Report]:
    directories = [made.directory / "shards" / f"{number:05d}" for number in made.numbers(split)]
    return b"".join((directory / "tokens.bin").read_bytes() for directory in directories), made.report(split)


def test_settings_name_the_expansion_where_it_decides_documents(tmp_path: Path) -> None:
    plain = write_jsonl(tmp_path / "a.jsonl", range(20))
    for path, named in ((plain, False), (compressed(plain, ".gz"), True)):
        stream = open_stream(settings_for(path))
        stream.close()
        assert ("data.max_expansion" in stream.fingerprint) == named
    stores.build(stores.settings_for(path, tmp_path / "store"))
    with pytest.raises(AssetError, match=r"max_expansion: 200\.0 in the store, 50\.0 now"):
        stores.open_stream(stores.settings_for(path, tmp_path / "store", data__max_expansion=50.0))


@pytest.mark.parametrize("command", [["show", "--batch=300"], ["build"], ["split", "--out=parts"]])
def test_lost_rest_of_a_file_is_said_once_by_every_command(
    tmp_path: Path, command: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = broken(tmp_path, ".gz", "torn")
    given = {"data.paths": path, "data.max_quarantined": 1}
    if command[0] != "split":
        given |= {"data.sequence_length": 32, "tokenizer.vocab_size": 300}
    flags = [f"--config.{name}={value}" for name, value in given.items()]
    gpt2 = Path(__file__).resolve().parents[2] / "configs/gpt2.py:tiny"
    for _ in range(2):  # one command knows nothing of another
        capsys.readouterr()
        assert app.main(["data", *command, f"--config={gpt2}", *flags]) == 0
        assert capsys.readouterr().err.count("the rest of the file is not read, ") == 1
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        shutil.rmtree(cache.directory("stores"), ignore_errors=True)


def test_lost_rest_of_a_file_is_said_once_in_training_and_validation(tmp_path: Path, capsys: Any) -> None:
    settings = settings_for(broken(tmp_path, ".gz", "torn")[0], data__max_quarantined=1.0)
    mixture = opened(settings)
    console.prepare()
    _, held_out = pipeline.validation_batches(settings, mixture, TOKENIZER, 400)
    accounts.write_exceptions(writer.Nowhere(), 0, "validation", held_out)
    accounts.write_exceptions(writer.Nowhere(), 1, "train", epoch(settings))
    assert held_out.rows and capsys.readouterr().err.count("the rest of the file is not read, ") == 1


# Files that change


@pytest.mark.parametrize("how", ["removed", "cut", "longer", "cut while it is open"])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv", "a.jsonl"])
def test_file_that_changes_while_it_is_read_ends_the_run(tmp_path: Path, how: str, name: str) -> None:
    path = WRITE[name.removesuffix(".gz")](tmp_path / name.removesuffix(".gz"), range(6000))
    path = compressed(path, ".gz") if name.endswith(".gz") else path
    size = path.stat().st_size
    data = settings_for(path).data
    corpus = corpora_of.open_corpus(data, "data")
    entries = corpus.read(range(corpus.num_units), data)
    read_before = [next(entries) for _ in range(50)]
    if how == "removed":
        path.unlink()
    elif how == "longer":
        with open(path, "ab") as file:
            file.write(b"\n")
    else:
        os.truncate(path, size // 2 if how == "cut" else size - 1)
    with pytest.raises(AssetError, match="cannot be read: No such file" if how == "removed" else "has changed: it had"):
        list(entries)
    assert read_before


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("suffix", COMPRESS)
def test_bomb_costs_little_memory(tmp_path: Path, suffix: str) -> None:
    """A gigabyte from a megabyte and less, behind whole rows."""
    path = tmp_path / f"a.jsonl{suffix}"
    rows = COMPRESS[suffix](b"".join(b'{"text": "%d"}\n' % number for number in range(20_000)))
    path.write_bytes(rows + COMPRESS[suffix](b" " * (1 << 30)))
    peak, *counts = child(path)
    assert counts == [20_000, 1] and peak < 300e6


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_a_file_nor_of_what_is_in_it(tmp_path: Path) -> None:
    row, peaks = b'"%d %s\n",' + b"y" * 1900 + b"\n", []
    for num_rows in (10_000, 160_000):
        path = tmp_path / f"{num_rows}.csv.gz"
        with gzip.open(path, "wb", 1) as file:
            file.write(b"text,n\n")
            for number in range(num_rows):
                file.write(row % (number, os.urandom(8).hex().encode()))
        assert 40 < num_rows * len(row) / path.stat().st_size < 190
        peak, *counts = child(path)
        assert counts == [num_rows, 0]
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 50e6 < 300e6


def child(path: Path) -> tuple[int, ...]:
    """Peak memory of a process that reads a file, in bytes; its documents, and its bad rows."""
    program = (
        "import re, sys; from corpora import resolve; from codex_jax.data import corpus\n"
        "data = resolve(data__paths=(sys.argv[1],), data__window_bytes=1 << 21).data\n"
        "made = corpus.open_corpus(data, 'data')\n"
        "rows = [0, 0]\n"
        "for entry in made.read(range(made.num_units), data): rows['BadRow' in type(entry.row).__name__] += 1\n"
        # Not the peak of getrusage, which this process passes on.
        "print(int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]) * 1024, *rows)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True, env=environment
    )
    return tuple(map(int, done.stdout.split()))


def test_lost_rest_of_a_file_is_said_at_the_terminal_and_in_the_ledger(tmp_path: Path, capsys: Any) -> None:
    path, _ = broken(tmp_path, ".gz", "torn")
    with small_writer.bare(tmp_path) as made:
        accounts.write_exceptions(made, 1, "train", read(path)[1])
    (row,) = [row for row in ledger.read(tmp_path / ledger.EVENTS) if row["event"] == "data.quarantined"]
    assert row["reason"] in capsys.readouterr().err and "the rest of the file is not read, " in row["reason"]
