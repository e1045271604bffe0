"""Pickles and what else can run a program, offered in every place where a file is looked for: refused, and not run."""

import contextlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codex_jax import config
from codex_jax.cli import app
from codex_jax.encoders import reading
from codex_jax.errors import AssetError
from codex_jax.models import build, origin, peft_files, weight_files
from codex_jax.tokenizers import beside, loading


pytestmark = pytest.mark.security

TINY = {"model_type": "gpt2", "vocab_size": 260, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return made.getvalue()


def tarred(data: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def numpy_file(bomb: Bomb, *, several: bool) -> bytes:
    made, array = io.BytesIO(), np.array([bomb], object)
    if several:
        np.savez(made, a=array)
    else:
        np.save(made, array)
    return made.getvalue()


# As torch, joblib, NumPy, Keras and NeMo write them: a name that such a file has, and what is in it.
KINDS: dict[str, Callable[[Bomb], bytes]] = {
    **{f"protocol{n}.pkl": lambda bomb, n=n: pickle.dumps(bomb, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "model.joblib": lambda bomb: pickle.dumps({"estimator": bomb}),
    "pytorch_model.bin": lambda bomb: zipped(archive__data__pkl=pickle.dumps(bomb), archive__version=b"3\n"),
    "consolidated.00.pth": lambda bomb: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(bomb, 2),
    "model.pt": lambda bomb: tarred(pickle.dumps(bomb)),
    "weights.ckpt": lambda bomb: pickle.dumps({"state_dict": {"a": bomb}}),
    "weights.npy": lambda bomb: numpy_file(bomb, several=False),
    "weights.npz": lambda bomb: numpy_file(bomb, several=True),
    "tf_model.h5": lambda bomb: b"\x89HDF\r\n\x1a\n" + pickle.dumps(bomb),
    "model.keras": lambda bomb: zipped(config__json=b'{"class_name": "Lambda"}', model__weights=pickle.dumps(bomb)),
    "text.pickle": lambda bomb: b"cos\nmkdir\n(S'" + str(bomb.marker).encode() + b"'\ntR.",
    "jumped.dill": lambda bomb: b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00" + pickle.dumps(bomb, 2)[2:],
}
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "manifest.json"),
)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that is whole but for its weights."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(TINY))
    return directory


def test_the_examples_do_run_where_they_are_unpickled(marker: Path) -> None:
    for name in ("protocol0.pkl", "protocol5.pkl", "model.joblib", "weights.ckpt", "text.pickle", "jumped.dill"):
        pickle.loads(KINDS[name](Bomb(marker)))
        marker.rmdir()
    np.load(io.BytesIO(KINDS["weights.npy"](Bomb(marker))), allow_pickle=True)
    assert marker.is_dir()


@pytest.mark.parametrize("name", KINDS)
def test_as_weights_it_is_refused(model: Path, marker: Path, name: str) -> None:
    data = KINDS[name](Bomb(marker))
    file = model / name
    file.write_bytes(data)
    for place in (model, file):
        with pytest.raises(AssetError):
            weight_files.tensors(place)
    # Named in an index, under its own name or as what it is not; and renamed to what is read.
    for named in (name, "part.safetensors"):
        (model / "part.safetensors").write_bytes(data)
        (model / weight_files.INDEX).write_text(json.dumps({"weight_map": {"a": named}}))
        with pytest.raises(AssetError):
            weight_files.tensors(model)
        (model / weight_files.INDEX).unlink()
    for renamed in (weight_files.SINGLE, weight_files.INDEX, weight_files.FLAX):
        (model / renamed).write_bytes(data)
        with pytest.raises(AssetError, match=renamed.replace(".", r"\.")):
            weight_files.tensors(model)
        (model / renamed).unlink()
    assert not marker.exists()


@pytest.mark.parametrize("name", KINDS)
def test_as_another_file_of_a_model_it_is_refused(model: Path, marker: Path, name: str) -> None:
    data = KINDS[name](Bomb(marker))
    definition = build.define(config.Model(weights=str(model), compute_dtype="float32"))
    (model / "config.json").write_bytes(data)
    with pytest.raises(AssetError, match=r"config\.json is not a JSON object"):
        origin.published(config.Model(weights=str(model)))
    adapter = config.Config(adapter=config.Adapter(weights=str(model)))
    (model / peft_files.CONFIG).write_bytes(data)
    with pytest.raises(AssetError, match=r"adapter_config\.json is not a JSON object"):
        peft_files.decided(adapter, definition)
    (model / peft_files.CONFIG).write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    (model / peft_files.WEIGHTS).write_bytes(data)
    with pytest.raises(AssetError, match=r"adapter_model\.safetensors is no safetensors file"):
        peft_files.decided(adapter, definition)
    for name_beside in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        (model / name_beside).write_bytes(data)
        with pytest.raises(AssetError, match="is not a JSON object"):
            beside.read(model / name_beside)
    (model / "sentence_bert_config.json").write_bytes(data)
    with pytest.raises(AssetError, match="is not a JSON object"):
        reading.limit(model)
    assert not marker.exists()


@pytest.mark.parametrize("name", KINDS)
def test_as_a_file_of_a_tokenizer_it_is_refused(tmp_path: Path, marker: Path, name: str) -> None:
    data = KINDS[name](Bomb(marker))
    for offered in TOKENIZER_FILES:
        directory = tmp_path / offered.replace(".", "-")
        directory.mkdir()
        if offered.endswith(("_config.json", "_map.json", "_tokens.json", "manifest.json")):
            (directory / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
            assert loading.load(directory).vocab_size == 6
        (directory / offered).write_bytes(data)
        with pytest.raises(AssetError):
            loading.load(directory)
    (directory / "manifest.json").unlink()
    (directory / "chat_template.jinja").write_bytes(data)
    with contextlib.suppress(AssetError):  # what is text is a template as good as any
        loading.load(directory)
    shutil.rmtree(directory)
    directory.mkdir()
    for file in ("vocab.json", "merges.txt"):
        (directory / file).write_bytes(data)
    with pytest.raises(AssetError):
        loading.load(directory)
    assert not marker.exists()


@pytest.mark.parametrize("renamed", ["pytorch_model.bin", "model.safetensors", "flax_model.msgpack", "config.json"])
def test_commands_end_with_code_3_and_one_message(
    model: Path, marker: Path, renamed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / renamed).write_bytes(KINDS["protocol4.pkl"](Bomb(marker)))
    for command in (["model", "import"], ["model", "show"], ["generate", "--prompt=x"], ["embed", "--text=x"]):
        shows = command[1] == "show" and renamed != "config.json"
        assert app.main([*command, str(model)]) in ((0,) if shows else (2, 3))  # 2: there is no tokenizer
        assert "Traceback" not in capsys.readouterr().err
    assert app.main(["model", "import", str(model)]) == 3
    assert not marker.exists()
