"""Files in buckets, read from a server on the loopback: the same documents and batches as from here, or a reason."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bucket_server
import pytest
import stores
from corpora import resolve, text, write_jsonl

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout, plan, remote, store
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data
PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Read when gcsfs is imported: it asks no server of Google's own for the kind of each bucket.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    "CODEX_ALLOW_NETWORK": "1",
}


class Bucket(NamedTuple):
    here: Path
    """the directory that is served"""
    there: str
    """its address"""
    server: bucket_server.Server


@pytest.fixture(params=sorted(PACKAGES))
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    package = PACKAGES[request.param]
    pytest.importorskip(package, reason=f"needs {package}, which is not in the lock: nox -s cloud")
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    with bucket_server.serving(tmp_path / "served") as server:
        for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, server.url)
        remote.file_system.cache_clear()  # it knows the address of another server
        yield Bucket(tmp_path / "served" / "bucket", f"{request.param}://bucket", server)


def read(path: object, **changes: Any) -> tuple[list[str], Report, corpora_of.Corpus]:
    data = resolve(data__paths=(str(path),), **changes).data
    corpus, report = corpora_of.open_corpus(data, "data"), Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    found = [pieces[0].text for pieces in reader.read(range(corpus.num_units), report)]
    return found, report, corpus


def test_file_directory_and_glob_hold_what_they_hold_here(bucket: Bucket) -> None:
    for number, name in enumerate(
        ("a.jsonl", "b/c.jsonl", "b/d e%.jsonl", "é.jsonl", "g.jsonl/h.jsonl", ".hidden.jsonl", ".h/f.jsonl")
    ):
        (bucket.here / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(bucket.here / "set" / name, range(number * 9, number * 9 + 9))
    (bucket.here / "set" / "notes.bin").write_bytes(b"\0")
    for path in ("set", "set/", "set/a.jsonl", "set/*.jsonl", "set/**/*.jsonl", "set/b/?.jsonl"):
        here, there = read(f"{bucket.here}/{path}"), read(f"{bucket.there}/{path}")
        assert here[0] == there[0] != []
        assert [file.name for file in here[2].files] == [file.name for file in there[2].files]
        assert here[2].fingerprint == there[2].fingerprint


def test_unit_is_one_look_and_one_request_for_little_more_than_itself(bucket: Bucket) -> None:
    write_jsonl(bucket.here / "a.jsonl", range(20_000))
    data = resolve(data__paths=(f"{bucket.there}/a.jsonl",), data__window_bytes=1 << 20).data
    corpus = corpora_of.open_corpus(data, "data")
    bucket.server.seen.clear()
    assert len(list(corpus.read([20], data))) > 100
    ranges = [wanted.removeprefix("bytes=").split("-") for _, _, wanted in bucket.server.seen if wanted]
    assert [int(last) - int(first) + 1 for first, last in ranges] == [131_072]
    assert len(bucket.server.seen) <= 4  # the client of gs looks three times


def test_all_units_in_their_order_are_a_few_requests_for_larger_and_larger_blocks(bucket: Bucket) -> None:
    size = write_jsonl(bucket.here / "a.jsonl", range(20_000)).stat().st_size
    data = resolve(data__paths=(f"{bucket.there}/a.jsonl",)).data
    corpus = corpora_of.open_corpus(data, "data")
    bucket.server.seen.clear()
    assert len(list(corpus.read(range(corpus.num_units), data))) == 20_000
    ranges = [wanted.removeprefix("bytes=").split("-") for _, _, wanted in bucket.server.seen if wanted]
    assert [int(last) - int(first) + 1 for first, last in ranges[:3]] == [1 << 17, 1 << 18, 1 << 19]
    assert size > 1_500_000 and len(ranges) <= 6


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl.gz", "a.parquet", "a.arrow"])
def test_every_kind_of_file_is_read(bucket: Bucket, name: str) -> None:
    rows = [{"text": text(number)} for number in range(300)]
    if name == "a.txt":
        (bucket.here / name).write_text("".join(row["text"] + "\n" for row in rows))
    elif name == "a.csv":
        (bucket.here / name).write_text("text\n" + "".join(row["text"] + "\n" for row in rows))
    elif name == "a.jsonl.gz":
        (bucket.here / name).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="needs the extra hf")
        table = pyarrow.Table.from_pylist(rows)
        if name == "a.parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, bucket.here / name, row_group_size=20)
        else:
            with pytest.importorskip("pyarrow.ipc").new_stream(str(bucket.here / name), table.schema) as file:
                file.write_table(table, 20)
    found, _, _ = read(f"{bucket.there}/{name}")
    assert found == read(bucket.here / name)[0] and "".join(found).count("document") == 300


def test_batches_are_those_from_here_with_any_workers_and_resume(bucket: Bucket) -> None:
    write_jsonl(bucket.here / "a.jsonl", range(200))
    digests = []
    for place, workers in ((bucket.here, 0), (bucket.there, 0), (bucket.there, 2)):
        stream = stores.open_stream(resolve(data__paths=(f"{place}/a.jsonl",), data__workers=workers))
        found = [(stores.digest(next(stream)), stream.state()) for _ in range(12)]
        stream.close()
        digests.append([digest for digest, _ in found])
        again = stores.open_stream(resolve(data__paths=(f"{bucket.there}/a.jsonl",)))
        again.restore(found[4][1])
        assert stores.digest(next(again)) == digests[0][5]
        again.close()
    assert digests[0] == digests[1] == digests[2]


def test_store_knows_its_sources_and_notices_another_content(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)
    path = write_jsonl(bucket.here / "a.jsonl", range(60))
    where = bucket.here.parent.parent
    here = stores.build(stores.settings_for(path, where / "here"))
    settings = resolve(
        data__paths=(f"{bucket.there}/a.jsonl",), data__mode="store", data__store=str(where / "there"), data__workers=2
    )
    there = stores.build(settings)
    assert stores.contents(here.directory) == stores.contents(there.directory)
    assert [source.sha256 for source in here.sources] == [source.sha256 for source in there.sources]
    assert there.sources[0].path == f"{bucket.there}/a.jsonl"
    stores.open_stream(settings)
    assert store.verify(there) == []
    content = path.read_bytes()
    path.write_bytes(content.replace(b"document 59", b"document 95"))
    assert len(store.verify(there)) == 1
    with pytest.raises(AssetError, match=r"a\.jsonl: SHA-256 "):
        stores.open_stream(settings)


@pytest.mark.parametrize("other", [b'{"text": "b"}\n', b'{"text": "ab"}\n'])
def test_object_that_is_written_anew_while_it_is_read_is_named(bucket: Bucket, other: bytes) -> None:
    (bucket.here / "a.jsonl").write_bytes(b'{"text": "a"}\n' * 30_000)
    data = resolve(data__paths=(f"{bucket.there}/a.jsonl",), data__window_bytes=1 << 20).data
    corpus = corpora_of.open_corpus(data, "data")
    assert len(list(corpus.read([0], data))) > 2000
    (bucket.here / "a.jsonl").write_bytes(other * 30_000)
    with pytest.raises(AssetError, match=r"//bucket/a\.jsonl has changed: it was written anew"):
        list(corpus.read([corpus.num_units - 3], data))
    (bucket.here / "a.jsonl").unlink()
    with pytest.raises(AssetError, match=r"//bucket/a\.jsonl cannot be read: No such file or directory"):
        list(corpus.read([corpus.num_units - 3], data))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.txt", r"//bucket/none\.txt does not exist; correct data\.paths"),
        ("*.none", r"no file matches .*//bucket/\*\.none; correct"),
        ("fil*", r"no file matches .*//bucket/fil\*; correct"),
        ("empty.txt", r"//bucket/empty\.txt is empty; fill it or leave it out"),
        ("files", r"directory .*//bucket/files holds no file ending in \.txt"),
        ("denied.txt", r"//bucket/denied\.txt cannot be read: "),
        ("wide.txt", r"//bucket/wide\.txt is UTF-16"),
    ],
)
def test_path_that_leads_nowhere_is_refused(bucket: Bucket, path: str, message: str) -> None:
    (bucket.here / "files").mkdir()
    for name, content in (("empty.txt", ""), ("denied.txt", "some text"), ("files/a.bin", "a")):
        (bucket.here / name).write_text(content)
    (bucket.here / "wide.txt").write_text("some text", encoding="utf-16")
    bucket.server.broken.add("denied.txt")
    with pytest.raises(AssetError, match=message):
        read(f"{bucket.there}/{path}", data__source="text")


def test_bad_row_is_named_by_its_byte_and_nothing_is_read_to_count_lines(bucket: Bucket) -> None:
    write_jsonl(bucket.here / "a.jsonl", range(20))
    size = (bucket.here / "a.jsonl").stat().st_size
    with open(bucket.here / "a.jsonl", "a") as file:
        file.write("broken\n")
    _, report, _ = read(f"{bucket.there}/a.jsonl")
    assert [(row.line, row.offset) for row in report.rows] == [(None, size)]


def test_what_is_only_read_from_here_says_so(bucket: Bucket) -> None:
    (bucket.here / "dataset").mkdir()
    (bucket.here / "dataset" / "state.json").write_text("{}")
    (bucket.here / "a.array_record").write_bytes(b"records")
    with pytest.raises(ConfigError, match=r"a\.array_record cannot be read where it is: copy ArrayRecord files here"):
        read(f"{bucket.there}/a.array_record")
    with pytest.raises(ConfigError, match=r"datasets are read from here: copy .*//bucket/dataset, or name its files"):
        read(f"{bucket.there}/dataset", data__source="hf")


@pytest.mark.parametrize("value", ["", "0", "yes"])
def test_network_is_off_until_it_is_allowed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CODEX_ALLOW_NETWORK", value)
    for path in ("s3://bucket/a.jsonl", "gs://bucket/*.jsonl"):
        with pytest.raises(ConfigError, match=r"bucket/.* is on the network, which is off: set CODEX_ALLOW_NETWORK=1"):
            read(path)


@pytest.mark.parametrize(("path", "extra"), [("s3://bucket/a", "s3"), ("gs://bucket/a", "gcs")])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, path: str, extra: str) -> None:
    monkeypatch.setenv("CODEX_ALLOW_NETWORK", "1")
    monkeypatch.setitem(sys.modules, PACKAGES[path[:2]], None)
    with pytest.raises(ConfigError, match=rf"bucket/a needs \w+: pip install 'codex-jax\[{extra}\]'"):
        read(path)


def test_other_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_ALLOW_NETWORK", "1")
    for path in ("https://example.org/a.txt", "hf://datasets/a", "az://bucket/a"):
        with pytest.raises(ConfigError, match=r"is no file, nor in a bucket of gs:// or s3://: copy it here"):
            read(path)
