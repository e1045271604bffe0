"""No changed bit gets past verification: each is named, refused, and an older checkpoint takes over."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import checkpoint_examples as examples
import pytest

from codex_jax import digest
from codex_jax.checkpoint import manifest, saving, store
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import AssetError, TrainingStopped


pytestmark = pytest.mark.infra


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def passed_over(root: Path, step: int, name: str) -> None:
    """Check that the newest step is refused for the sake of one file, and that the step before it is found."""
    found = store.find_newest(root)
    assert found and found.step == step - 1
    assert [number for number, _ in found.skipped] == [step]
    assert name in found.skipped[0][1]


def test_flipped_bit_is_named_in_every_file(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    generator = random.Random(0)
    for path in files_of(root / "2"):
        before = path.read_bytes()
        flip(path, generator.randrange(8 * len(before)))
        passed_over(root, 2, str(path.relative_to(root / "2")))
        path.write_bytes(before)
    found = store.find_newest(root)
    assert found and found.step == 2


def test_flipped_bit_is_found_anywhere_in_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    manifest.write(tmp_path)
    path = tmp_path / manifest.NAME
    before = path.read_bytes()
    for bit in range(0, 8 * len(before), 3):  # 3 and 8 have no common divisor: every byte, every place in a byte
        flip(path, bit)
        with pytest.raises(AssetError, match=r"manifest\.json"):
            manifest.read(tmp_path)
        path.write_bytes(before)
    manifest.verify(tmp_path)


@pytest.mark.parametrize("keep", ["nothing", "half", "all but one byte"])
def test_truncated_file_is_named(root: Path, save: Callable[..., list[int]], keep: str) -> None:
    save(1, 2)
    for path in files_of(root / "2"):
        before = path.read_bytes()
        kept = {"nothing": 0, "half": len(before) // 2, "all but one byte": len(before) - 1}[keep]
        path.write_bytes(before[:kept])
        passed_over(root, 2, str(path.relative_to(root / "2")))
        path.write_bytes(before)


def test_deleted_file_is_named(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    for path in files_of(root / "2"):
        before = path.read_bytes()
        path.unlink()
        passed_over(root, 2, f"{path.relative_to(root / '2')}: missing")
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["extra", "state/extra", "data/x\ny"])
def test_extra_file_is_named(root: Path, save: Callable[..., list[int]], name: str) -> None:
    save(1, 2)
    (root / "2" / name).write_bytes(b"")
    passed_over(root, 2, repr(name))


def test_swapped_files_are_found(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    first, second = sorted(files_of(root / "2"), key=lambda path: path.stat().st_size)[-2:]
    first.rename(root / "kept")
    second.rename(first)
    (root / "kept").rename(second)
    passed_over(root, 2, str(first.relative_to(root / "2")))


def test_edited_digest_in_the_manifest_is_refused(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    path = root / "2" / "meta.json"
    path.write_bytes(path.read_bytes().replace(b'"r"', b'"s"'))
    listing = json.loads((root / "2" / manifest.NAME).read_bytes())
    next(entry for entry in listing["files"] if entry["path"] == "meta.json")["sha256"] = digest.of_file(path)
    (root / "2" / manifest.NAME).write_text(json.dumps(listing, sort_keys=True, indent=1) + "\n")
    passed_over(root, 2, "root digest")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"root"', b'"note": 1, "root"'), (b'"format": 1', b'"format": 1, "format": 1'), (b"\n ", b"\n  ")],
)
def test_manifest_spelt_otherwise_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    (tmp_path / "one").write_bytes(b"1")
    manifest.write(tmp_path)
    content = (tmp_path / manifest.NAME).read_bytes()
    assert old in content
    (tmp_path / manifest.NAME).write_bytes(content.replace(old, new, 1))
    with pytest.raises(AssetError, match="spelt"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "a/../../outside", "a\0b", "a\nb", "", "a//b", "./a", "x" * 300, "\ud800"]
)
def test_manifest_entry_that_escapes_or_is_absurd_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    directory = tmp_path / "1"
    directory.mkdir()
    (directory / "a").write_bytes(b"secret")
    made = manifest.write(directory)
    files = [{"path": name, "bytes": 6, "sha256": made.files[0].sha256}]
    content = {"format": 1, "files": files, "root": digest.of_json({"format": 1, "files": files})}
    (directory / manifest.NAME).write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    with pytest.raises(AssetError, match=r"manifest\.json: damaged"):
        manifest.verify(directory)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "1", "[" * 100_000, '{"format": 2}', "\udcff"])
def test_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / manifest.NAME).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(AssetError, match=r"manifest\.json: damaged"):
        manifest.verify(tmp_path)


def test_symbolic_link_is_refused_and_not_followed(root: Path, save: Callable[..., list[int]], tmp_path: Path) -> None:
    save(1, 2)
    path = root / "2" / "meta.json"
    path.rename(tmp_path / "meta.json")
    path.symlink_to(tmp_path / "meta.json")
    passed_over(root, 2, "'meta.json': a symbolic link")
    path.unlink()
    (tmp_path / "meta.json").rename(path)
    (root / "2" / "state").rename(tmp_path / "state")
    (root / "2" / "state").symlink_to(tmp_path / "state")
    passed_over(root, 2, "'state': a symbolic link")
    shutil.rmtree(root / "2")
    (root / "2").symlink_to(root / "1")
    passed_over(root, 2, "a link")


def test_pipe_in_a_checkpoint_does_not_hang_verification(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    os.mkfifo(root / "2" / "pipe")
    passed_over(root, 2, "'pipe': not a plain file")


def test_renamed_step_is_refused(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    shutil.copytree(root / "1", root / "2")
    passed_over(root, 2, "is of step 1; the directory was renamed")


def test_only_damaged_checkpoints_are_an_error_that_names_each(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    (root / "1" / "meta.json").unlink()
    (root / "2" / manifest.NAME).unlink()
    with pytest.raises(AssetError) as caught:
        store.find_newest(root)
    assert "1: meta.json: missing" in str(caught.value)
    assert "2: manifest.json: missing" in str(caught.value)
    assert str(caught.value).count(str(root)) == 1


def test_damaged_step_is_moved_aside_when_it_is_saved_again(
    root: Path, save: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    save(1, 2)
    flip(root / "2" / "meta.json", 100)
    damaged = (root / "2" / "meta.json").read_bytes()
    assert save(2) == [2]
    said = capsys.readouterr().err
    assert f"{root}/2: meta.json: SHA-256 differs; it is now 2.damaged, for you to look at and delete" in said
    found = store.find_newest(root)
    assert found and (found.step, found.skipped) == (2, [])
    assert (root / "2.damaged" / "meta.json").read_bytes() == damaged
    flip(root / "2" / "meta.json", 100)
    save(2)
    assert (root / "2.damaged-2" / "meta.json").is_file()


def test_intact_step_is_left_as_it_is_when_saved_again(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    before = {path: path.stat().st_mtime_ns for path in files_of(root)}
    assert save(1) == []
    assert {path: path.stat().st_mtime_ns for path in files_of(root)} == before


def test_intact_step_with_other_contents_is_not_overwritten(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    state = examples.make(1, examples.mesh(1))
    with (
        saving.Checkpointer(root, Rules(1), lambda *_: None) as checkpointer,
        pytest.raises(TrainingStopped, match="with other contents"),
    ):
        checkpointer.save(1, state, {"next": 2}, {})
    found = store.find_newest(root)
    assert found and found.data_state == {"next": 1}


def check_flips(directory: Path, flips: int, seed: int) -> None:
    """Flip one bit at a time, drawn over all bytes of all files: each is found, in the right file, and put back."""
    draw, files = random.Random(seed), files_of(directory)
    sizes = [path.stat().st_size for path in files]
    for _ in range(flips):
        path = draw.choices(files, sizes)[0]
        bit = draw.randrange(8 * path.stat().st_size)
        flip(path, bit)
        with pytest.raises(AssetError) as caught:
            manifest.verify(directory)
        assert str(path.relative_to(directory)) in str(caught.value), (seed, path, bit)
        flip(path, bit)
    manifest.verify(directory)
    print(f"{flips} of {flips} flipped bits named, seed {seed}")


def test_each_of_200_random_flipped_bits_is_named(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    check_flips(root / "1", 200, seed=0)


@pytest.mark.slow
def test_each_of_1000_random_flipped_bits_is_named_and_passed_over(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)
    seed = random.SystemRandom().randrange(2**32)
    check_flips(root / "2", 1000, seed)
    draw = random.Random(seed)
    for _ in range(200):
        path = draw.choice(files_of(root / "2"))
        bit = draw.randrange(8 * path.stat().st_size)
        flip(path, bit)
        passed_over(root, 2, str(path.relative_to(root / "2")))
        flip(path, bit)
