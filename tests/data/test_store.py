"""A store: the same bytes however it is built, and batches that are a function of seed and number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from corpora import TOKENIZER, opened, text, write_jsonl

from codex_jax import digest
from codex_jax.data import layout, mixture, packing, pipeline, plan, shard, table
from codex_jax.data import stores as made_stores
from codex_jax.data.encoding import Encoder
from codex_jax.data.order import Shuffled, permuted
from codex_jax.data.store import Store
from codex_jax.errors import AssetError, TrainingStopped
from codex_jax.tokenizers.tokenizer import Roles


pytestmark = pytest.mark.data

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """60 documents, a secret, a row without text and one that is broken."""
    path = write_jsonl(tmp_path / "rows.jsonl", range(60))
    with open(path, "a") as file:
        file.write(json.dumps({"text": f"before {SECRET} after"}) + '\n{"text": ""}\n{broken\n')
    return path


def settings_for(rows: Path, **changes: Any) -> Any:
    return stores.settings_for(rows, rows.parent / "store", data__max_quarantined=0.1, **changes)


def whole_stream(settings: Any, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All tokens of a split, whether each is learnt and the number of its document, made without any store."""
    (part,) = opened(settings)
    chosen = mixture.for_training(part) if split == "train" else mixture.for_validation(part)
    encoder = Encoder(
        reader=mixture.reader(settings, chosen, layout.for_training(settings.data, TOKENIZER)), tokenizer=TOKENIZER
    )
    pieces, _ = encoder(range(part.corpus.num_units))
    flat = packing.flatten(pieces, eos=TOKENIZER.eos_id)
    documents = np.searchsorted(flat.ends_D, np.arange(flat.tokens_T.size), "right")
    return flat.tokens_T, flat.learnt_T, documents


def num_rows_of(made: Store) -> int:
    return table.ConcatRows(table.Table(made, "train"), 16).count


@pytest.mark.parametrize("split", plan.SPLITS)
@pytest.mark.parametrize("length", [2, 16, 300, 100_000])
def test_rows_are_cut_from_all_documents_in_the_order_of_the_files(rows: Path, split: str, length: int) -> None:
    settings = settings_for(rows)
    made = stores.build(settings)
    assert len(made.numbers(split)) > 4
    tokens, learnt, documents = whole_stream(settings, split)
    here = table.ConcatRows(table.Table(made, split), length)
    found = here(np.arange(here.count))
    for row in range(here.count):
        part = slice(row * length, row * length + length + 1)
        size = tokens[part].size
        assert found.tokens_BM[row, :size].tolist() == tokens[part].tolist()
        assert found.learnt_BM[row, :size].tolist() == learnt[part].tolist()
        assert found.documents_BM[row, :size].tolist() == (documents[part] - documents[part][0]).tolist()
        assert (found.documents_BM[row, size:] == -1).all() and not found.learnt_BM[row, size:].any()
    assert (not learnt.all()) == (split == "train")


def test_an_epoch_learns_every_token_once(rows: Path) -> None:
    settings = settings_for(rows)
    made = stores.build(settings)
    _, learnt, documents = whole_stream(settings, "train")
    stream = stores.open_stream(settings, 1)
    weight = sum(next(stream).weights_BL.sum() for _ in range(num_rows_of(made)))
    first_of_document = np.diff(documents, prepend=-1) > 0
    assert weight == (learnt & ~first_of_document).sum()


@pytest.mark.parametrize("how", ["first_fit", "alone"])
@pytest.mark.parametrize("length", [2, 16, 300])
def test_fitted_rows_of_a_store_are_those_of_each_shard_packed(rows: Path, length: int, how: str) -> None:
    settings = settings_for(rows)
    made = stores.build(settings)
    tokens, learnt, documents = whole_stream(settings, "train")
    here = table.FittedRows(table.Table(made, "train"), length, how)
    found, at, row = here(np.arange(here.count)), 0, 0
    for number in made.numbers("train"):
        part = slice(at, at := at + made.shards[number].tokens)
        ends = np.flatnonzero(np.diff(documents[part], append=-1)) + 1
        packed = packing.fitted(packing.Flat(tokens[part], learnt[part], ends), packing.FITS[how](ends, length), length)
        these = packing.take(found, slice(row, row := row + len(packed.tokens_BM)))
        for ours, theirs in zip(
            packing.to_batch(these, isolate=True), packing.to_batch(packed, isolate=True), strict=True
        ):
            assert np.array_equal(ours, theirs)
    assert row == here.count


def test_fitted_batches_resume_and_learn_every_token_once(rows: Path) -> None:
    settings = settings_for(rows, data__packing="first_fit")
    made = stores.build(settings)
    _, learnt, documents = whole_stream(settings, "train")
    count = table.open_rows(made, "train", settings.data).count
    stream = stores.open_stream(settings, 1)
    weight = sum(next(stream).weights_BL.sum() for _ in range(count))
    assert weight == (learnt & (np.diff(documents, prepend=-1) == 0)).sum()
    again = stores.open_stream(settings, 1)
    again.restore(stream.state())
    assert stores.digest(next(again)) == stores.digest(next(stream))
    with pytest.raises(AssetError, match=r"data\.packing: 'first_fit' in the checkpoint, 'concat' now"):
        stores.open_stream(settings_for(rows)).restore(stream.state())


def test_counts_add_up_and_exceptions_are_named_with_their_place(rows: Path) -> None:
    made = stores.build(settings_for(rows))
    for split in plan.SPLITS:
        report = made.report(split)
        assert report.read == 63
        assert report.read == report.trained + report.held_out + report.filtered + report.quarantined
        assert (report.filtered, report.quarantined) == (split == "train", 1)
    manifest = json.loads((made.directory / "manifest.json").read_text())
    assert manifest["splits"]["train"]["safety"] == {"redact/github-token": 1}
    (row,) = [row for n in made.numbers("train") for row in shard.quarantined(shard.directory_of(made.directory, n))]
    assert (row.line, row.file) == (63, str(rows))
    found = [line for path in made.directory.rglob("safety.ndjson") for line in path.read_text().splitlines()]
    assert [json.loads(line)["hash"] for line in found] == [""]  # it has to be the same on every machine
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in made.directory.rglob("*") if path.is_file())


def test_index_leads_from_each_document_to_its_place(rows: Path) -> None:
    made = stores.build(settings_for(rows))
    content, seen = rows.read_bytes(), 0
    for number in made.numbers("train"):
        directory = shard.directory_of(made.directory, number)
        tokens = np.fromfile(directory / "tokens.bin", "<u2")
        ends, places = np.fromfile(directory / "ends.bin", "<i8"), np.fromfile(directory / "places.bin", "<i8")
        starts = [0, *ends[:-1]]
        for start, end, (file, offset) in zip(starts, ends, places.reshape(-1, 2), strict=True):
            line = json.loads(content[offset:].split(b"\n")[0])["text"].replace(SECRET, "[REDACTED:github-token]")
            assert (file, TOKENIZER.decode(tokens[start : end - 1])) == (0, line)
            seen += 1
    assert seen == made.report("train").trained > 40


def test_batch_is_a_function_of_seed_and_number(rows: Path) -> None:
    settings = settings_for(rows)
    num_rows = num_rows_of(stores.build(settings))
    stream = stores.open_stream(settings)
    whole = [(stores.digest(next(stream)), json.loads(json.dumps(stream.state()))) for _ in range(3 * num_rows // 8)]
    assert len({digest for digest, _ in whole}) == len(whole)
    for at in range(0, len(whole) - 1, 7):
        resumed = stores.open_stream(settings)
        resumed.restore(whole[at][1])
        assert (stores.digest(next(resumed)), resumed.state()) == whole[at + 1]
    other = stores.open_stream(settings_for(rows, run__seed=1))
    assert stores.digest(next(other)) not in {digest for digest, _ in whole}


def test_batch_size_may_change_at_a_resume(rows: Path) -> None:
    settings = settings_for(rows)
    stores.build(settings)
    stream, small = stores.open_stream(settings, 8), stores.open_stream(settings, 2)
    next(stream)
    small.restore(stream.state())
    assert np.array_equal(next(small).tokens_BL, next(stream).tokens_BL[:2])


def test_documents_are_counted_once_an_epoch(rows: Path) -> None:
    settings = settings_for(rows)
    made = stores.build(settings)
    stream, num_rows = stores.open_stream(settings, 5), num_rows_of(made)
    for _ in range(2 * num_rows // 5):
        next(stream)
    resumed = stores.open_stream(settings, 5)
    resumed.restore(stream.state())
    for _ in range(num_rows // 5):
        next(resumed)
    assert [report.read for report in stream.take_reports() + resumed.take_reports()] == [63, 63, 63]


def test_validation_is_that_of_the_store_whatever_the_seed(rows: Path) -> None:
    made = []
    for seed in (0, 1):
        settings = settings_for(rows, run__seed=seed, eval__num_batches=500)
        stores.build(settings)
        batches, report = pipeline.validation_batches(settings, opened(settings), TOKENIZER, 7)
        made.append([stores.digest(batch) for batch in batches])
    assert made[0] == made[1] and report.trained + report.held_out == 62
    held_out = {text(n) for n in range(60)} - set(trained_texts(rows))
    assert held_out and report.trained == len(held_out)


def trained_texts(rows: Path) -> list[str]:
    tokens, _, _ = whole_stream(settings_for(rows), "train")
    return TOKENIZER.decode(tokens).split("<|endoftext|>")


def test_files_of_their_own_are_a_validation_split(tmp_path: Path, rows: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", range(900, 930))
    settings = settings_for(rows, data__validation_paths=(str(other),))
    made = stores.build(settings)
    assert (made.report("validation").trained, made.report("train").trained) == (30, 61)
    assert len(made.sources) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000, 4097])
def test_permutation_of_many_places_is_that_of_each(size: int) -> None:
    many = Shuffled(size, ("a", 1))(np.arange(size))
    assert many.tolist() == [permuted(place, size, ("a", 1)) for place in range(size)]


GOLDEN = "f85630f01202cb77"


class Bytes:
    """A tokenizer that no library can change."""

    vocab_size, eos_id, digest, chat_template, roles = 257, 256, "bytes", None, Roles()

    def encode(self, texts: list[str], *, special: bool = False) -> list[np.ndarray]:
        return [np.frombuffer(part.encode(), np.uint8).astype(np.int32) for part in texts]


def test_bytes_of_a_store_change_only_with_its_format(rows: Path) -> None:
    settings = settings_for(rows)
    made = made_stores.make(settings, opened(settings), Bytes())[0]  # type: ignore[arg-type]
    files = [{name: sha for name, (_, sha) in facts.files.items() if name.endswith(".bin")} for facts in made.shards]
    found = digest.of_json(files)[:16]
    assert (plan.FORMAT, found) == (2, GOLDEN), (
        "raise plan.FORMAT, so that stores of before are not read, and put this here"
    )


def test_too_many_broken_rows_stop_the_build(rows: Path) -> None:
    with open(rows, "a") as file:
        file.write("{broken\n" * 20)
    with pytest.raises(
        TrainingStopped, match=r"(?s)21 of 83 documents.*max_quarantined=0\.1.*rows\.jsonl:63 .*not JSON"
    ):
        stores.build(settings_for(rows))
    stores.build(stores.settings_for(rows, rows.parent / "store", data__max_quarantined=0.5))


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": SECRET}) + "\n")
    settings = stores.settings_for(path, tmp_path / "store")
    stores.build(settings)
    with pytest.raises(AssetError, match="no document to train on: of 1 read"):
        stores.open_stream(settings)
    with pytest.raises(AssetError, match="holds out none of 1 documents"):
        pipeline.validation_batches(settings, opened(settings), TOKENIZER, 4)
