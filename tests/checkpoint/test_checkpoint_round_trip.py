"""What is restored is what was saved, bit for bit, wherever it is put."""

import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import checkpoint_examples as examples
import jax
import pytest

from codex_jax.checkpoint import saving, store
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import AssetError


pytestmark = pytest.mark.infra


@pytest.mark.parametrize(("saved_on", "restored_on"), [(1, 1), (8, 8), (8, 1), (1, 8)])
def test_restore_equals_saved_bits_on_any_devices(
    root: Path, save: Callable[..., list[int]], saved_on: int, restored_on: int
) -> None:
    """A-CKP-13."""
    state = examples.make(7, examples.mesh(saved_on))
    save(7, devices=saved_on)
    found = store.find_newest(root)
    assert found and found.step == 7
    target = examples.target(state, examples.mesh(restored_on))
    restored = store.restore(found, target)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert examples.bits(restored) == examples.bits(state)
    assert [leaf.sharding for leaf in jax.tree.leaves(restored)] == [leaf.sharding for leaf in jax.tree.leaves(target)]
    assert int(jax.random.bits(restored.key)) == int(jax.random.bits(state.key))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_restore_keeps_keys_of_each_kind(root: Path, impl: str) -> None:
    where = examples.shardings(jax.random.key(0), examples.mesh(1))
    state = {"one": jax.device_put(jax.random.key(3, impl=impl), where)}
    state["many"] = jax.device_put(jax.random.split(state["one"], (2, 3)), where)
    with saving.Checkpointer(root, Rules(1), lambda *_: None) as checkpointer:
        checkpointer.save(1, state, {}, {})
    found = store.find_newest(root)
    assert found
    restored = store.restore(found, examples.target(state, examples.mesh(1)))
    assert examples.bits(restored) == examples.bits(state)


def test_found_carries_what_the_trainer_gave(root: Path, save: Callable[..., list[int]]) -> None:
    assert save(3) == [3]
    found = store.find_newest(root)
    assert found
    assert (found.step, found.data_state, found.meta) == (3, {"next": 3}, {"run_id": "r", "step": 3})
    assert found.versions["jax"] == jax.__version__
    assert str(found.leaves["params/blocks/kernel"]) == "bfloat16[2, 64, 16]"
    assert found.leaves["key"].dtype == "key<fry>"
    assert found.skipped == []
    assert sorted(path.name for path in found.path.iterdir()) == ["data", "manifest.json", "meta.json", "state"]
    listed = {str(path.relative_to(found.path)) for path in found.path.rglob("*") if path.is_file()}
    assert listed == {entry.path for entry in found.manifest.files} | {"manifest.json"}


@pytest.mark.parametrize("how", ["cp -r . {}", "tar -cf - . | tar -xf - -C {}"], ids=["cp", "tar"])
def test_copy_of_a_root_is_as_good_as_the_root(
    root: Path, save: Callable[..., list[int]], tmp_path: Path, how: str
) -> None:
    save(1, 2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(how.format(elsewhere), shell=True, cwd=root, check=True)
    shutil.rmtree(root)
    found = store.find_newest(elsewhere)
    assert found and found.step == 2
    state = examples.make(2, examples.mesh(1))
    assert examples.bits(store.restore(found, examples.target(state, examples.mesh(1)))) == examples.bits(state)


@pytest.mark.parametrize("devices", [1, 8])
def test_save_may_be_followed_by_donation_at_once(root: Path, devices: int) -> None:
    on = examples.mesh(devices)
    state = examples.make(0, on, width=8192)
    spoil = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    expected = examples.bits(state)
    with saving.Checkpointer(root, Rules(3), lambda *_: None) as checkpointer:
        checkpointer.save(0, state, {}, {})
        params = spoil(state.params | {"mask": state.step})
        for _ in range(20):
            params = spoil(params)
        jax.block_until_ready(params)
    found = store.find_newest(root)
    assert found
    assert examples.bits(store.restore(found, examples.target(examples.make(0, on, width=8192), on))) == expected


def test_arguments_may_change_after_save(root: Path) -> None:
    data_state, meta = {"next": [1]}, {"note": {"a": 1}}
    with saving.Checkpointer(root, Rules(1), lambda *_: None) as checkpointer:
        checkpointer.save(1, examples.make(1, examples.mesh(1)), data_state, meta)
        data_state["next"].append(2)
        meta["note"]["a"] = 2
    found = store.find_newest(root)
    assert found and (found.data_state, found.meta) == ({"next": [1]}, {"note": {"a": 1}})


def test_restore_lists_every_leaf_that_differs(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    found = store.find_newest(root)
    assert found
    target = examples.target(examples.make(1, examples.mesh(1)), examples.mesh(1))
    blocks = target.params["blocks"]
    target.params["blocks"] = {
        "kernel": jax.ShapeDtypeStruct((2, 64, 17), blocks["kernel"].dtype, sharding=blocks["kernel"].sharding),
        "bias": jax.ShapeDtypeStruct((16,), "int32", sharding=blocks["bias"].sharding),
        "scale": blocks["bias"],
    }
    del target.params["mask"]
    with pytest.raises(AssetError) as caught:
        store.restore(found, target)
    for line in (
        "4 leaves differ",
        "params/blocks/kernel: bfloat16[2, 64, 16] in the checkpoint, expected bfloat16[2, 64, 17]",
        "params/blocks/bias: float32[16] in the checkpoint, expected int32[16]",
        "params/blocks/scale: missing in the checkpoint, expected float32[16]",
        "params/mask: bool[2] in the checkpoint, not expected",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize("value", [{"a": float("nan")}, {1: 2}, {"a": (1, 2)}, {"a": {1, 2}}])
def test_save_refuses_what_json_would_change(root: Path, value: dict[object, object]) -> None:
    with saving.Checkpointer(root, Rules(1), lambda *_: None) as checkpointer:
        with pytest.raises(ValueError):
            checkpointer.save(1, examples.make(1, examples.mesh(1)), value, {})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="weights"):
            checkpointer.save(1, {"weights": 1.5}, {}, {})
    assert store.find_newest(root) is None


@pytest.mark.slow
def test_two_processes_save_one_checkpoint_and_restore_it(root: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    program = Path(__file__).with_name("two_processes.py")
    started = [
        subprocess.Popen([sys.executable, program, root, str(process), port], stdout=subprocess.PIPE, text=True)
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert all("restored 2" in output for output in outputs)
    assert [output.count("saved") for output in outputs] == [2, 0]  # process 0 acknowledges


def test_only_orbax_is_silenced(root: Path, save: Callable[..., list[int]], caplog: pytest.LogCaptureFixture) -> None:
    save(1)
    absl = logging.getLogger("absl")
    for place in ("/site-packages/orbax/checkpoint/future.py", "/site-packages/grain/source.py"):
        absl.handle(absl.makeRecord("absl", logging.ERROR, place, 1, place, (), None))
    assert [record.getMessage() for record in caplog.records] == ["/site-packages/grain/source.py"]


def test_unraisable_errors_of_others_are_still_printed() -> None:
    program = """
from codex_jax.checkpoint import noise
class Careless:
    def __del__(self):
        raise RuntimeError("Event loop is closed")
noise.suppress()
Careless()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Careless" in ran.stderr and "Event loop is closed" in ran.stderr
