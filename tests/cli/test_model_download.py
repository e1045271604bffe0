"""`codex-jax model download`, from a hub on the loopback: all of a model, or a part that nobody takes for one."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub
from safetensors.numpy import save
from tiny_hub import INDEX, REPOSITORY, TINY, WEIGHTS, download, restate, run, tensors

from codex_jax.models import pretrained, receipt


pytestmark = pytest.mark.model


def test_what_is_read_here_is_fetched_checked_and_written_down(
    served: Hub, published: dict[str, bytes], capsys: Any
) -> None:
    found = download(capsys, "--json")
    here = Path("my-model")
    wanted = {name for name in published if name.startswith("tokenizer") or name in ("config.json", WEIGHTS)}
    assert {path.name for path in here.iterdir()} == wanted | {receipt.FILE}
    assert all((here / name).read_bytes() == published[name] for name in wanted)
    assert {path.name for path in Path().iterdir()} == {"my-model"}
    assert not any(one.path.endswith((".bin", ".py", ".onnx", "agent-harnesses")) for one in served.seen)
    assert found["digest"] == pretrained.digest(here)
    kept = json.loads((here / receipt.FILE).read_text())
    assert (kept["repository"], kept["commit"], kept["digest"]) == (REPOSITORY, COMMIT, found["digest"])
    assert kept["files"] == {name: hashlib.sha256(published[name]).hexdigest() for name in sorted(wanted)}
    assert kept["endpoint"] == os.environ["HF_ENDPOINT"] and kept["time"].endswith("+00:00")
    again = run(capsys, "import", "my-model", "--json")
    assert (again["digest"], again["from"]) == (found["digest"], f"{REPOSITORY} at {COMMIT}")
    assert "is there already" in download(capsys, code=3)
    (here / "tokenizer.json").write_bytes(b"{}")
    assert "tokenizer.json is not the file that was downloaded" in run(capsys, "import", "my-model", code=3)


def test_without_to_it_lies_where_it_is_looked_for(served: Hub, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(capsys, "download", REPOSITORY, f"--revision={COMMIT}")
    assert f"--config.model.weights={Path().absolute()}/artifacts/models/Tiny.GPT" in said
    Path("many").mkdir()
    monkeypatch.setenv("CODEX_OFFLINE_MODELS_DIR", "many")
    run(capsys, "download", REPOSITORY, f"--revision={COMMIT}")
    assert (Path("many") / "Tiny.GPT" / WEIGHTS).is_file()


def test_shards_and_flax_are_fetched_where_there_is_no_single_file(served: Hub, capsys: Any) -> None:
    names = sorted(tensors())
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    del served.files[WEIGHTS]
    shards = {file: save({name: tensors()[name] for name in part}) for file, part in parts.items()}
    restate(served, {**shards, INDEX: json.dumps(index).encode(), "c.safetensors": b"x"})
    assert len(download(capsys, "--json")["files"]) == 2 and not Path("my-model/c.safetensors").exists()
    for name in (*shards, INDEX):
        del served.files[name]
    restate(served, {"flax_model.msgpack": b"\x80"})
    said = run(capsys, "download", REPOSITORY, f"--revision={COMMIT}", "--to=flax", code=3)
    assert "are not those of this gpt2" in said and served.asked("flax_model.msgpack") and not Path("flax").exists()


# What goes wrong on the way, and what is said. What has arrived is kept, hidden, and used by the next try.
@pytest.mark.parametrize(
    ("file", "fault", "said"),
    [
        (WEIGHTS, "flip", f"{WEIGHTS} of {REPOSITORY} came with other bytes than the hub states (sha256 "),
        ("config.json", "flip", "config.json of some-one/Tiny.GPT came with other bytes than the hub states (git "),
        (WEIGHTS, "longer", "is larger than the"),
        (WEIGHTS, "truncate", "cannot be reached, or broke off (RemoteProtocolError)"),
        (WEIGHTS, "hang", "is silent (ReadTimeout)"),
        (WEIGHTS, "503", "answers 503 when asked for model.safetensors"),
    ],
)
def test_what_breaks_off_is_no_model_and_is_gone_on_with(
    served: Hub, published: dict[str, bytes], capsys: Any, file: str, fault: str, said: str
) -> None:
    served.faults[file] = fault
    message = download(capsys, code=3)
    assert said in message and message.count("codex_jax: ") == 1
    assert not Path("my-model").exists()
    kept = Path(".my-model.part")
    assert not (kept / file).exists()
    served.faults.clear()
    served.seen.clear()
    download(capsys)
    assert Path("my-model", WEIGHTS).read_bytes() == published[WEIGHTS] and not kept.exists()
    assert bool(served.asked("config.json")) == (file == "config.json")
    if fault in ("truncate", "hang"):
        assert [one.headers["range"] for one in served.asked(WEIGHTS)] == [f"bytes={len(published[WEIGHTS]) // 2}-"]


# What can never be good: one message, and nothing is left.
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"faults": {"api": "401"}}, "gives no access (401) to some-one/Tiny.GPT at 0123456789"),
        ({"faults": {"api": "404"}}, "has no some-one/Tiny.GPT at"),
        ({"faults": {"api": "hang"}}, "is silent (ReadTimeout)"),
        ({"faults": {"api": "other"}}, "does not answer as a hub does"),
        ({"faults": {WEIGHTS: "404"}}, f"has no {WEIGHTS} of {REPOSITORY} at {COMMIT} (404)"),
        ({"faults": {WEIGHTS: "403"}}, "and HF_TOKEN is not set"),
        ({"sibling": {"rfilename": "../x"}}, "lists a file '../x', which leads out of its directory"),
        ({"sibling": {"rfilename": "a/../../x"}}, "leads out of its directory"),
        ({"sibling": {"rfilename": "/x"}}, "leads out of its directory"),
        ({"sibling": {"rfilename": "..\\x"}}, "leads out of its directory"),
        ({"sibling": {"rfilename": "config.json"}}, "lists a file twice"),
        ({"sibling": {"size": None}}, "states no size or no hash of 'x'"),
        ({"sibling": {"blobId": None}}, "states no size or no hash of 'x'"),
        ({"size": (WEIGHTS, 1 << 60)}, "has weights of 1,152,921.5 TB, and its config.json tells of 11"),
        ({"size": ("config.json", 1 << 30)}, "config.json of some-one/Tiny.GPT has 1,073,741,824 bytes, and at most"),
        ({"config": {**TINY, "auto_map": {"AutoModel": "x.y"}}}, "config.json has auto_map: it asks for a program"),
        ({"config": {**TINY, "model_type": "mamba"}}, "mamba"),
        ({"config": {**TINY, "n_layer": 3}}, "the weights in"),
        ({"weights": None}, "has its weights in pytorch_model.bin only, which can hold programs"),
    ],
)
def test_what_cannot_be_good_leaves_nothing(served: Hub, capsys: Any, change: dict[str, Any], said: str) -> None:
    served.faults |= change.get("faults", {})
    if "sibling" in change:
        served.siblings.append({"rfilename": "x", "size": 1, "blobId": 40 * "a", **change["sibling"]})
    if "size" in change:
        one = next(one for one in served.siblings if one["rfilename"] == change["size"][0])
        one["size"] = one.get("lfs", one)["size"] = change["size"][1]
    if "config" in change:
        restate(served, {"config.json": json.dumps(change["config"]).encode()})
    if "weights" in change:
        served.siblings = [one for one in served.siblings if one["rfilename"] != WEIGHTS]
    message = download(capsys, code=2 if "mamba" in said else 3)
    assert said in message and message.count("codex_jax: ") == 1
    assert list(Path().iterdir()) == []
    in_config = "auto_map" in said or "mamba" in said
    assert not (in_config and served.asked(WEIGHTS))


def test_an_index_that_leads_out_of_the_directory_is_refused(served: Hub, capsys: Any) -> None:
    del served.files[WEIGHTS]
    restate(served, {INDEX: b'{"weight_map": {"a": "../../x.safetensors"}}'})
    assert "is no .safetensors file beside it" in download(capsys, code=3)
    assert list(Path().iterdir()) == []


def test_more_than_there_is_room_for_is_refused_before_it_comes(served: Hub, capsys: Any) -> None:
    restate(served, {"config.json": json.dumps({**TINY, "n_embd": 65_536, "n_layer": 1024}).encode()})
    one = next(one for one in served.siblings if one["rfilename"] == WEIGHTS)
    one["lfs"]["size"] = 10**14
    said = download(capsys, code=4)
    assert "needs 100.0 TB more in" in said and "make room" in said and not served.asked(WEIGHTS)


def test_digest_that_is_not_met_leaves_nothing(served: Hub, capsys: Any) -> None:
    assert "and not 1234" in download(capsys, "--digest=1234", code=3)
    assert list(Path().iterdir()) == []


def test_connection_that_ends_early_is_gone_on_with_at_once(
    served: Hub, published: dict[str, bytes], capsys: Any
) -> None:
    served.faults[WEIGHTS] = "break"
    download(capsys)
    assert [one.headers.get("range") for one in served.asked(WEIGHTS)] == [
        None,
        f"bytes={len(published[WEIGHTS]) // 2}-",
    ]


def test_killed_process_leaves_no_model_and_the_next_goes_on(
    served: Hub, published: dict[str, bytes], main_env: dict[str, str], capsys: Any
) -> None:
    served.faults[WEIGHTS] = "hang"
    env = {**main_env, "HF_ENDPOINT": os.environ["HF_ENDPOINT"], "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    line = ["download", REPOSITORY, f"--revision={COMMIT}", "--to=my-model"]
    process = subprocess.Popen([sys.executable, "-m", "codex_jax.cli.app", "model", *line], env=env)
    try:
        part = Path(".my-model.part", f"{WEIGHTS}.part")
        assert served.half_sent.wait(60)
        while not part.is_file() or part.stat().st_size < 1000:
            assert process.poll() is None
            time.sleep(0.02)
        assert "another process is downloading to" in download(capsys, code=2)
    finally:
        process.kill()
        process.wait()
    assert not Path("my-model").exists() and not Path(".my-model.part", WEIGHTS).exists()
    served.faults.clear()
    download(capsys)
    assert served.asked(WEIGHTS)[-1].headers["range"].startswith("bytes=")
    assert Path("my-model", WEIGHTS).read_bytes() == published[WEIGHTS]


def test_part_of_another_commit_is_not_gone_on_with(served: Hub, published: dict[str, bytes], capsys: Any) -> None:
    old = Path(".my-model.part")
    old.mkdir()
    (old / "downloading.json").write_text(f"{REPOSITORY} {40 * 'a'}\n")
    (old / f"{WEIGHTS}.part").write_bytes(b"of old")
    (old / "left.txt").write_text("over")
    download(capsys)
    assert "range" not in served.asked(WEIGHTS)[0].headers
    assert not Path("my-model", "left.txt").exists()
