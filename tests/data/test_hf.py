"""Directories of datasets: their splits, their order and their columns, and every half copied one refused by name.

They are written here as `datasets` writes them, which the suite does not install. That it is so was seen with datasets
5.2 and its own files, read back row by row:

    from datasets import Dataset, DatasetDict
    rows = Dataset.from_dict({"id": list(range(2500)), "text": [f"document {n}" for n in range(2500)]})
    rows.save_to_disk("one", num_shards=2)
    DatasetDict({"train": rows, "test": rows.select(range(10))}).save_to_disk("dict")
    rows.shuffle(seed=0).save_to_disk("shuffled")
    codex-jax data build --config configs/gpt2.py:tiny --config.data.source=hf --config.data.paths=one ...
"""

import json
from pathlib import Path
from typing import Any

import pytest
from corpora import resolve, text, write_jsonl

from codex_jax.data import corpus as corpora_of
from codex_jax.data import layout
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety.gate import Gate


pytestmark = pytest.mark.data
pyarrow = pytest.importorskip("pyarrow", reason="needs the extra hf")
ipc = pytest.importorskip("pyarrow.ipc", reason="needs the extra hf")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra hf")


def save(directory: Path, numbers: range, parts: int = 1, **state: Any) -> Path:
    """Write what Dataset.save_to_disk does."""
    directory.mkdir(parents=True)
    names = [f"data-{part:05d}-of-{parts:05d}.arrow" for part in range(parts)]
    for part, name in enumerate(names):
        rows = [{"text": text(number), "id": number} for number in numbers]
        table = pyarrow.Table.from_pylist(rows[len(rows) * part // parts : len(rows) * (part + 1) // parts])
        with ipc.new_stream(str(directory / name), table.schema) as file:
            file.write_table(table, 10)
    content = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "1a", "_split": None, **state}
    (directory / "state.json").write_text(json.dumps(content))
    (directory / "dataset_info.json").write_text('{"features": {"text": {"dtype": "string", "_type": "Value"}}}')
    return directory


def save_dict(directory: Path, **splits: range) -> Path:
    """Write what DatasetDict.save_to_disk does."""
    for name, numbers in splits.items():
        save(directory / name, numbers)
    (directory / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return directory


def hub(directory: Path, readme: str = "", **files: range) -> Path:
    """Write Parquet files by their names, with __ for each /."""
    for name, numbers in files.items():
        path = directory / (name.replace("__", "/").replace("_of_", "-of-") + ".parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table({"text": [text(number) for number in numbers]}), path)
    (directory / "README.md").write_text(readme or "# A dataset\n")
    return directory


def open_paths(*paths: object, **changes: Any) -> corpora_of.Corpus:
    given = {"data__source": "hf", **changes}
    return corpora_of.open_corpus(resolve(data__paths=tuple(map(str, paths)), **given).data, "data")


def numbers(corpus: corpora_of.Corpus | None) -> list[int]:
    """Return the numbers of the documents of a corpus, in their order."""
    assert corpus is not None
    data, report = resolve().data, Report()
    reader = Reader(corpus=corpus, data=data, gate=Gate(policy=None), split="all", layout=layout.contents)
    pieces = [document[0].text for document in reader.read(range(corpus.num_units), report)]
    assert report.read == report.trained == len(pieces)
    return [int(piece.split(":")[0].removeprefix("document ")) for piece in pieces]


def test_saved_dataset_is_read_in_the_order_of_its_state(tmp_path: Path) -> None:
    directory = save(tmp_path / "one", range(50), parts=3)
    (directory / "cache-1a2b.arrow").write_bytes(b"what map() left behind")
    corpus = open_paths(directory)
    assert [file.name for file in corpus.files] == [f"data-0000{part}-of-00003.arrow" for part in range(3)]
    assert numbers(corpus) == list(range(50))
    state = json.loads((directory / "state.json").read_text())
    state["_data_files"].reverse()
    (directory / "state.json").write_text(json.dumps(state))
    assert numbers(open_paths(directory)) == [*range(33, 50), *range(16, 33), *range(16)]


def test_split_of_a_dict_is_the_only_one_or_train_or_the_one_named(tmp_path: Path) -> None:
    both = save_dict(tmp_path / "both", test=range(5), train=range(5, 20))
    assert numbers(open_paths(both)) == list(range(5, 20))
    assert numbers(open_paths(both, data__split_name="test")) == list(range(5))
    assert [file.name for file in open_paths(both).files] == ["train/data-00000-of-00001.arrow"]
    assert numbers(open_paths(save_dict(tmp_path / "one", dev=range(3)))) == [0, 1, 2]
    other = save_dict(tmp_path / "other", a=range(5), b=range(5))
    with pytest.raises(AssetError, match=r"splits a, b, and none is called train; name one in data\.split_name"):
        open_paths(other)
    with pytest.raises(AssetError, match=r"no split c, it has a, b; name one in data\.split_name"):
        open_paths(other, data__split_name="c")


def test_dataset_named_to_validate_on_is_its_validation_split(tmp_path: Path) -> None:
    paths = [save_dict(tmp_path / "saved", train=range(9), validation=range(20, 25), test=range(30, 32))]
    paths.append(hub(tmp_path / "copied", data__train=range(9), data__dev=range(20, 25), data__test=range(30, 32)))
    for path in paths:
        corpus = open_paths(path, data__validation_paths=(str(path),))
        assert (numbers(corpus), numbers(corpus.validation)) == (list(range(9)), list(range(20, 25)))
    named = open_paths(paths[0], data__split_name="test", data__validation_paths=(str(paths[0] / "train"),))
    assert (numbers(named), numbers(named.validation)) == ([30, 31], list(range(9)))
    without = save_dict(tmp_path / "without", train=range(5), test=range(5))
    with pytest.raises(AssetError, match=r"none is called validation; name the directory or .* data\.validation_paths"):
        open_paths(without, data__validation_paths=(str(without),))


def damage(directory: Path, name: str, content: str | None) -> Path:
    path = directory / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    return directory


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data-00001-of-00002.arrow", None, r"data-00001-of-00002\.arrow is missing, and .*state\.json names it"),
        ("state.json", "{", r"state\.json is damaged \(Expecting"),
        ("state.json", "[]", r"state\.json is damaged \(no object\)"),
        ("state.json", "{}", r"state\.json names no files"),
        ("state.json", '{"_data_files": []}', r"state\.json names no files"),
        ("state.json", '{"_data_files": [{"filename": "../a"}]}', r"names '\.\./a', nothing in its directory"),
        ("state.json", '{"_data_files": [{}]}', r"names None, nothing in its directory"),
    ],
)
def test_half_of_a_saved_dataset_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        open_paths(damage(save(tmp_path / "one", range(9), parts=2), name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_dict.json", '{"splits": []}', r"dataset_dict\.json names no files or splits"),
        ("dataset_dict.json", '{"splits": [".."]}', r"names '\.\.', nothing in its directory"),
        ("train/state.json", None, r"train/state\.json cannot be read: No such file"),
    ],
)
def test_half_of_a_dict_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        open_paths(damage(save_dict(tmp_path / "one", train=range(9)), name, content))


def test_selected_or_shuffled_rows_are_refused_with_the_way_out(tmp_path: Path) -> None:
    directory = save(tmp_path / "one", range(9), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(AssetError, match=r"another order \(indices\); call flatten_indices\(\) and save again"):
        open_paths(directory)


def test_saved_dataset_without_the_source_is_not_read_as_any_files(tmp_path: Path) -> None:
    directory = save_dict(tmp_path / "one", train=range(9))
    for source in ("", "arrow"):
        with pytest.raises(ConfigError, match=r"is a saved dataset, .*: set data\.source=hf"):
            open_paths(directory, data__source=source)
    assert numbers(open_paths(directory / "train/data-00000-of-00001.arrow", data__source="")) == list(range(9))


def test_dataset_is_found_by_its_name_below_the_directory_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "all" / "books", range(9))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AssetError, match=r"books does not exist; correct data\.paths, or .* CODEX_OFFLINE_DATASETS_DIR"
    ):
        open_paths("books")
    monkeypatch.setenv("CODEX_OFFLINE_DATASETS_DIR", str(tmp_path / "all"))
    assert numbers(open_paths("books")) == list(range(9))
    with pytest.raises(AssetError, match=r"neither verses nor .*/all/verses exists \(CODEX_OFFLINE_DATASETS_DIR\)"):
        open_paths("verses")
    save(tmp_path / "books", range(3))
    assert numbers(open_paths("books")) == [0, 1, 2]
    monkeypatch.setenv("CODEX_OFFLINE_DATASETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(AssetError, match=r"CODEX_OFFLINE_DATASETS_DIR=.*/nowhere is not a directory; correct"):
        open_paths("others")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data__train-00000_of_00001", "train"),
        ("train_sft-00000_of_00001-6f9a2c1b", "train_sft"),
        ("books.valid", "validation"),
        ("eval__part1", "test"),
        ("my-Training.set", "train"),
    ],
)
def test_split_is_what_the_name_of_a_file_says(tmp_path: Path, name: str, split: str) -> None:
    directory = hub(tmp_path / "copy", **{name: range(3), "zz__other-00000_of_00001": range(5, 9), "no": range(9, 12)})
    assert numbers(open_paths(directory, data__split_name=split)) == [0, 1, 2]
    with pytest.raises(AssetError, match=f"no split x, it has .*{split}"):
        open_paths(directory, data__split_name="x")


def test_files_that_name_no_split_are_train_and_parts_are_in_order(tmp_path: Path) -> None:
    assert numbers(open_paths(hub(tmp_path / "copy", b=range(3, 6), a=range(3)))) == list(range(6))
    parts = {f"data__train-0000{part}_of_00003": range(part, part + 1) for part in (2, 0, 1)}
    assert numbers(open_paths(hub(tmp_path / "parts", **parts))) == [0, 1, 2]


def test_several_datasets_in_one_directory_are_not_mixed(tmp_path: Path) -> None:
    directory = hub(tmp_path / "copy", main__train=range(3), socratic__train=range(3, 6))
    with pytest.raises(
        ConfigError, match=r"lie in main, socratic, perhaps several datasets; name the directory of one"
    ):
        open_paths(directory)
    assert numbers(open_paths(directory / "main")) == [0, 1, 2]


README = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: [first/*.parquet, second.parquet]
  - split: test
    path: first.parquet
%s---
# A dataset
"""


def test_readme_says_which_files_are_a_split(tmp_path: Path) -> None:
    files = {"first__test": range(3), "first__more": range(3, 5), "second": range(5, 7), "first": range(9, 11)}
    directory = hub(tmp_path / "copy", README % "", **files)
    assert numbers(open_paths(directory)) == [3, 4, 0, 1, 2, 5, 6]
    assert numbers(open_paths(directory, data__split_name="test")) == [9, 10]
    second = "- config_name: other\n  data_files: second.parquet\n"
    (directory / "README.md").write_text(README % second)
    with pytest.raises(ConfigError, match=r"README\.md lists several datasets: main, other; name the directory of one"):
        open_paths(directory)
    (directory / "README.md").write_text(README % (second + "  default: true\n"))
    assert numbers(open_paths(directory)) == [5, 6]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("configs: [{data_files: a.parquet}]", "does not list its files"),
        ("configs: {a: 1}", "does not list its files"),
        ("configs: [", "does not list its files.*not YAML"),
        ("configs: [{config_name: a, data_files: b.parquet}]", r"no file of .* matches b\.parquet"),
        ("configs: [{config_name: a, data_files: [{split: train}]}]", "does not list its files"),
    ],
)
def test_readme_that_lists_other_files_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        open_paths(hub(tmp_path / "copy", f"---\n{head}\n---\n", a=range(3)))


def test_files_of_a_copy_may_be_json_lines(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name, some in (("train", range(3)), ("test", range(3, 5))):
        write_jsonl(tmp_path / "copy" / f"{name}.jsonl", some)
    corpus = open_paths(tmp_path / "copy")
    assert (corpus.source, numbers(corpus)) == ("jsonl", [0, 1, 2])
