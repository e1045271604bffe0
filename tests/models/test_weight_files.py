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
from codex_jax.models import peft_files, safetensors_file, weight_files


pytestmark = pytest.mark.security

F32_4 = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def raw(path: Path, header: Any, data: bytes = bytes(16)) -> Path:
    """Write a file with that header, whatever it says; a text, or bytes, go in as they are."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    held = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(struct.pack("<Q", len(held)) + held + data)
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
        ('{"a": ' + "[" * 100_000, b"", "is not a JSON object"),
        ('{"a": ' + "[" * 99 + "]" * 99 + "}", b"", r"is not a JSON object \(it is nested more than 64 deep"),
        ("[]", b"", r"is not a JSON object \(it is a list"),
        ('{"a": {"dtype": "F32", "shape": [NaN, 2], "data_offsets": [0, 16]}}', bytes(16), "NaN is in it"),
        ('{"a": {"dtype": "F32", "shape": [1e999, 2], "data_offsets": [0, 16]}}', bytes(16), "1e999 is in it"),
        ({"a": {**F32_4, "shape": [2.0, 2]}}, bytes(16), "shape"),
        ({"a": {**F32_4, "shape": None}}, bytes(16), "shape None"),
        ({"a": {**F32_4, "shape": [10**400]}}, bytes(16), "shape"),
        ({"a": {**F32_4, "data_offsets": [0, 1 << 63]}}, bytes(16), "data_offsets"),
        ({"a": {**F32_4, "data_offsets": [0]}}, bytes(16), "data_offsets"),
        ({"a": {**F32_4, "shape": []}}, bytes(16), "needs 4 bytes; its data_offsets give 16"),
        (b'{"\xff": {}}', b"", "is not a JSON object .*can't decode byte 0xff"),
        ({"a\nerror: b": F32_4}, bytes(16), r"called 'a\\nerror: b'"),
        ({"\x1b[2J": F32_4}, bytes(16), r"of 4 characters that is called '\\x1b"),
        ({"\ud800": F32_4}, bytes(16), r"called '\\ud800'"),
        ({"a" * 100_000: F32_4}, bytes(16), "a tensor of 100,000 characters that is called 'aaa"),
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


def text(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sparse(path: Path, begin: bytes, size: int) -> None:
    path.write_bytes(begin)
    os.truncate(path, size)


# Headers of the largest size that is read, sparse files that announce more, names and nests that fill the memory; in
# each kind of file that a model may have.
MANY = "{" + ",".join(f'"{n}":{{}}' for n in range(300_000)) + "}"
DEEP, NUMBERS = '{"a":' * 500_000, '{"a":[' + "0," * 1_900_000 + "0]}"
TENSOR = b"\xc7\x0d\x01\x93\x91\x00\xa7float32\xc4\x00"  # an array of shape (0,)
SINGLE, INDEX, FLAX = weight_files.SINGLE, weight_files.INDEX, weight_files.FLAX
CONFIG, ADAPTER = "config.json", peft_files.WEIGHTS
HOSTILE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "oversize": (SINGLE, lambda path: (raw(path, "{" + " " * (99 << 20) + "}"), os.truncate(path, 200 << 20))),
    "sparse": (SINGLE, lambda path: sparse(path, struct.pack("<Q", 80 << 30), 100 << 30)),
    "many": (SINGLE, lambda path: raw(path, MANY)),
    "twice": (SINGLE, lambda path: raw(path, "{" + ",".join('"":1' for _ in range(700_000)) + "}")),
    "deep": (SINGLE, lambda path: raw(path, DEEP)),
    "numbers": (SINGLE, lambda path: raw(path, NUMBERS)),
    "index-sparse": (INDEX, lambda path: sparse(path, b'{"weight_map": {', 100 << 30)),
    "index-many": (INDEX, lambda path: text(path, '{"weight_map":' + MANY + "}")),
    "index-deep": (INDEX, lambda path: text(path, DEEP)),
    "config-sparse": (CONFIG, lambda path: sparse(path, b"{", 100 << 30)),
    "config-deep": (CONFIG, lambda path: text(path, DEEP[: 1 << 20])),
    "config-numbers": (CONFIG, lambda path: text(path, NUMBERS[: 1 << 20])),
    "config-pipe": (CONFIG, os.mkfifo),
    "index-pipe": (INDEX, os.mkfifo),
    "config-device": (CONFIG, lambda path: path.symlink_to("/dev/zero")),
    "index-device": (INDEX, lambda path: path.symlink_to("/dev/zero")),
    "adapter-numbers": (ADAPTER, lambda path: raw(path, NUMBERS)),
    "adapter-device": (ADAPTER, lambda path: path.symlink_to("/dev/zero")),
    "flax-map": (FLAX, lambda path: sparse(path, b"\xdf\xff\xff\xff\xff", 100 << 30)),
    "flax-deep": (FLAX, lambda path: text(path, b"\x81\xa1a" * 1_000_000)),
    "flax-name": (FLAX, lambda path: sparse(path, b"\x81\xdb\xff\xff\xff\xff", 8 << 30)),
    "flax-length": (FLAX, lambda path: sparse(path, b"\x81\xa1a\xc9\xff\xff\xff\xff\x01\x93\x91\x01", 8 << 30)),
    "flax-many": (
        FLAX,
        lambda path: text(path, b"\xdf\x00\x0f\x00\x00" + b"".join(b"\xa6%06d" % n + TENSOR for n in range(0xF0000))),
    ),
    "flax-parts": (
        FLAX,
        lambda path: text(
            path,
            b"\x81\xa1a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa10\x00\xa6chunks\xdf\x00\x0f\x00\x00"
            + b"".join(bytes([0xA0 + len(str(n))]) + str(n).encode() + TENSOR for n in range(0xF0000)),
        ),
    ),
}
READ = """
import sys, time
from pathlib import Path
from codex_jax.errors import AssetError
from codex_jax.models import origin, peft_files, weight_files
directory, name = Path(sys.argv[1]), sys.argv[2]
read = {
    "config.json": lambda: origin.read(directory / name),
    peft_files.WEIGHTS: lambda: peft_files._tensors(directory),
}
def peak():  # getrusage would tell of the parent it was forked from
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
before, begin = peak(), time.perf_counter()
try:
    read.get(name, lambda: weight_files.tensors(directory))()
except AssetError as error:
    assert len(str(error)) < 1000
    print("refused", peak() - before, time.perf_counter() - begin, error)
"""


@pytest.mark.parametrize("case", list(HOSTILE))
def test_a_hostile_file_takes_neither_memory_nor_time(tmp_path: Path, case: str) -> None:
    name, write = HOSTILE[case]
    write(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", READ, tmp_path, name], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr
    assert int(done.stdout.split()[1]) < 100, done.stdout  # MiB


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
    "file",
    [
        *("../secret.safetensors", "/etc/secret.safetensors", "a/b.safetensors", "..\\secret.safetensors"),
        *("one.bin", "one.safetensors\0", "\ud800.safetensors", "\x1b[2J.safetensors", 300 * "a" + ".safetensors"),
        *(3, None, ["one.safetensors"], {}),
    ],
)
def test_an_index_that_names_a_file_elsewhere_is_refused(sharded: Path, file: Any) -> None:
    save_file({"a": np.ones((2, 2), np.float32)}, sharded.parent / "secret.safetensors")
    index(sharded, {"a": file, "b": "two.safetensors"})
    with pytest.raises(AssetError, match=r"which is no \.safetensors file beside it; nothing was read"):
        weight_files.tensors(sharded)


def test_an_index_with_a_key_twice_is_refused(sharded: Path) -> None:
    text = '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "a": "two.safetensors"}}'
    (sharded / weight_files.INDEX).write_text(text)
    with pytest.raises(AssetError, match="'a' is in it twice"):
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


def test_an_adapter_that_is_a_link_out_of_its_directory_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "secret.safetensors")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / peft_files.WEIGHTS).symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(AssetError, match=r"is a link to .*secret\.safetensors, outside of its directory"):
        peft_files._tensors(tmp_path / "adapter")


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
