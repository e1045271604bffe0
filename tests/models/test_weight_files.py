"""Weight files that are damaged, hostile or of another kind: one clear message, and nothing of them is used."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from codex_jax.errors import AssetError
from codex_jax.models import safetensors_file, weight_files


pytestmark = pytest.mark.security

F32_4 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def raw(path: Path, header: Any, data: bytes = bytes(16)) -> Path:
    """Write a file with that header, whatever it says; a text goes in as it is."""
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + data)
    return path


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ({"a": {**F32_4, "data_offsets": [0, 8]}}, bytes(8), "needs 16 bytes; its data_offsets give 8"),
        ({"a": {**F32_4, "data_offsets": [4, 20]}}, bytes(20), "'a' leaves a hole before it: it begins at 4, not 0"),
        ({"a": F32_4, "b": {**F32_4, "data_offsets": [8, 24]}}, bytes(24), "'b' overlaps what is before it"),
        ({"a": F32_4, "b": {**F32_4, "data_offsets": [0, 16]}}, bytes(16), "'b' overlaps what is before it"),
        ({"a": F32_4}, bytes(17), "is damaged: its tensors end at byte"),
        ({"a": F32_4}, bytes(15), "is damaged: its tensors end at byte"),
        ({"a": {**F32_4, "data_offsets": [16, 0]}}, bytes(16), r"data_offsets \[16, 0\]"),
        ({"a": {**F32_4, "data_offsets": [-16, 0]}}, bytes(16), "data_offsets"),
        ({"a": {**F32_4, "shape": [2, -2]}}, bytes(16), r"shape \[2, -2\]"),
        ({"a": {**F32_4, "shape": [True, 4]}}, bytes(16), "shape"),
        ({"a": {**F32_4, "shape": [1 << 60, 0]}}, bytes(16), "shape"),
        ({"a": {**F32_4, "shape": [1 << 40, 1 << 40]}}, bytes(16), "needs 4,835,703,278,458,516,698,824,704 bytes"),
        ({"a": {**F32_4, "dtype": "F32x"}}, bytes(16), "unknown type 'F32x'"),
        ({"a": {**F32_4, "dtype": ["F32"]}}, bytes(16), "unknown type"),
        ({"a": {"dtype": "F32", "shape": [2, 2]}}, bytes(16), "exactly dtype, shape and data_offsets"),
        ({"a": {**F32_4, "more": 1}}, bytes(16), "exactly dtype, shape and data_offsets"),
        ({"a": 3}, bytes(16), "exactly dtype, shape and data_offsets"),
        (f'{{"a": {json.dumps(F32_4)}, "a": {json.dumps(F32_4)}}}', bytes(16), "'a' is in it twice"),
        ('{"a": ' + "[" * 100_000, b"", "is not JSON"),
        ("[]", b"", "is no JSON object"),
        ('{"a": NaN', b"", "is not JSON"),
    ],
)
def test_a_header_that_is_not_true_of_the_file_is_refused(
    tmp_path: Path, header: Any, data: bytes, complaint: str
) -> None:
    raw(tmp_path / "model.safetensors", header, data)
    with pytest.raises(AssetError, match=complaint):
        weight_files.tensors(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 1 << 62, (1 << 64) - 1])
def test_a_length_of_the_header_that_cannot_be_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" * 8)
    with pytest.raises(AssetError, match="is no safetensors file, or was cut off"):
        weight_files.tensors(tmp_path)


@pytest.mark.parametrize("data", [b"", b"abc", b"\x80\x04cos\nsystem\n(S'touch marker'\ntR."])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(AssetError, match="is no safetensors file"):
        weight_files.tensors(tmp_path)


def test_a_tensor_without_axes_and_an_empty_one_are_read_for_what_they_are(tmp_path: Path) -> None:
    save_file({"a": np.array(3, np.float32), "b": np.zeros((0, 4), np.float32)}, tmp_path / "model.safetensors")
    found = weight_files.tensors(tmp_path)
    assert {name: one.shape for name, one in found.items()} == {"a": (), "b": (0, 4)}


# A header of the largest size that is read, a sparse file that announces more, and names that fill the memory.
HOSTILE: dict[str, Callable[[Path], Any]] = {
    "oversize": lambda path: (raw(path, "{" + " " * (99 << 20) + "}"), os.truncate(path, 200 << 20)),
    "sparse": lambda path: (path.write_bytes(struct.pack("<Q", 80 << 30)), os.truncate(path, 100 << 30)),
    "many": lambda path: raw(path, "{" + ",".join(f'"{n}":{{}}' for n in range(300_000)) + "}"),
    "twice": lambda path: raw(path, "{" + ",".join('"":1' for _ in range(700_000)) + "}"),
    "deep": lambda path: raw(path, '{"a":' * 500_000),
    "numbers": lambda path: raw(path, '{"a":[' + "0," * 1_900_000 + "0]}"),
}
READ = """
import sys, time
from pathlib import Path
from codex_jax.errors import AssetError
from codex_jax.models import weight_files
begin = time.perf_counter()
try:
    weight_files.tensors(Path(sys.argv[1]))
except AssetError as error:
    assert len(str(error)) < 1000
    status = Path("/proc/self/status").read_text()  # getrusage would tell of the parent it was forked from
    peak = int(status.partition("VmHWM:")[2].split()[0]) >> 10
    print("refused", peak, time.perf_counter() - begin)
"""


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_header_takes_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    HOSTILE[name](tmp_path / "model.safetensors")
    done = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr
    assert int(done.stdout.split()[1]) < 200, done.stdout


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Two files and their index."""
    directory = tmp_path / "sharded"
    directory.mkdir()
    for file, name in (("one.safetensors", "a"), ("two.safetensors", "b")):
        save_file({name: np.ones((2, 2), np.float32)}, directory / file)
    index(directory, {"a": "one.safetensors", "b": "two.safetensors"})
    return directory


def index(directory: Path, names: Any) -> None:
    (directory / weight_files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_shards_are_read_by_their_index(sharded: Path) -> None:
    assert sorted(weight_files.tensors(sharded)) == ["a", "b"]
    assert [path.name for path in weight_files.files(sharded)] == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/secret.safetensors", "a/b.safetensors", "one.bin", "one.safetensors\0", 3]
)
def test_an_index_that_names_a_file_elsewhere_is_refused(sharded: Path, file: Any) -> None:
    save_file({"a": np.ones((2, 2), np.float32)}, sharded.parent / "secret.safetensors")
    index(sharded, {"a": file, "b": "two.safetensors"})
    with pytest.raises(AssetError, match=r"which is no \.safetensors file beside it; nothing was read"):
        weight_files.tensors(sharded)


def test_a_link_out_of_the_directory_is_refused_but_for_the_cache_of_the_hub(sharded: Path, tmp_path: Path) -> None:
    outside = tmp_path / "blobs" / "0123"
    outside.parent.mkdir()
    (sharded / "one.safetensors").rename(outside)
    (sharded / "one.safetensors").symlink_to(outside)
    with pytest.raises(AssetError, match=r"one.safetensors is a link to .*, outside of its directory"):
        weight_files.tensors(sharded)
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.parent.mkdir()
    sharded.rename(snapshot)
    assert sorted(weight_files.tensors(snapshot)) == ["a", "b"]


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(AssetError, match="is no regular file"):
        weight_files.tensors(tmp_path)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ({"a": "one.safetensors"}, "'b' is not in the index|one.safetensors"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, "'a' is not in two.safetensors"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "'c' is not in two.safetensors"),
        ({"a": "one.safetensors", "b": "gone.safetensors"}, "gone.safetensors is not there"),
        ({}, "names no tensor"),
        ([], "is not the index of safetensors files"),
    ],
)
def test_an_index_that_is_not_true_of_its_files_is_refused(sharded: Path, names: Any, complaint: str) -> None:
    save_file({"a": np.ones((2, 2), np.float32), "b": np.ones(2, np.float32)}, sharded / "one.safetensors")
    if names and "b" in names:
        save_file({"a": np.ones((2, 2), np.float32)}, sharded / "one.safetensors")
    index(sharded, names)
    with pytest.raises(AssetError, match=complaint):
        weight_files.tensors(sharded)


def test_a_tensor_in_two_files_and_two_kinds_of_directory_are_refused(sharded: Path) -> None:
    save_file({"a": np.ones((2, 2), np.float32)}, sharded / "two.safetensors")
    index(sharded, {"a": "one.safetensors", "b": "two.safetensors"})
    with pytest.raises(AssetError, match="1 tensors are in several files, 'a' among them"):
        weight_files.tensors(sharded)
    (sharded / "one.safetensors").rename(sharded / weight_files.SINGLE)
    with pytest.raises(AssetError, match=r"has both model\.safetensors and model\.safetensors\.index\.json"):
        weight_files.tensors(sharded)


@pytest.mark.parametrize("suffix", weight_files.PICKLES)
def test_pickles_are_refused_by_their_names_and_never_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pytorch_model{suffix}"
    os.mkfifo(path)  # whoever opened it would wait for ever
    with pytest.raises(
        AssetError, match=rf"in pytorch_model{suffix} only: such files can hold programs.*save_pretrained"
    ):
        weight_files.tensors(tmp_path)
    with pytest.raises(
        AssetError, match=rf"pytorch_model{suffix} is a file, which can hold programs and is never opened"
    ):
        weight_files.tensors(path)


def test_a_directory_without_weights_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"holds no weights: name a directory with model\.safetensors, .*msgpack"):
        weight_files.tensors(tmp_path)
    with pytest.raises(AssetError, match="gone is no directory"):
        weight_files.tensors(tmp_path / "gone")


def test_the_digest_is_of_names_and_contents_and_follows_a_change(sharded: Path) -> None:
    first = weight_files.digest(sharded)
    assert weight_files.digest(sharded) == first
    path = sharded / "one.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(1, 1))
    assert weight_files.digest(sharded) != first


def test_the_types_that_are_not_read_are_known_all_the_same(tmp_path: Path) -> None:
    save_file({"a": np.ones(3, np.float64), "b": np.ones(3, np.int8)}, tmp_path / "model.safetensors")
    found = safetensors_file.tensors(tmp_path / "model.safetensors")
    assert {one.dtype for one in found.values()} == {"F64", "I8"}
