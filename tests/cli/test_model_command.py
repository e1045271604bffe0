"""`codex-jax model`: what it says of the catalogue and of directories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from codex_jax import config, trees
from codex_jax.cli import app
from codex_jax.models import build, catalogue, export, pretrained
from codex_jax.tokenizers import byte


pytestmark = pytest.mark.model

TINY = {"model_type": "gpt2", "vocab_size": 260, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CODEX_GPT2_PATH", "CODEX_TINYLLAMA_PATH", "CODEX_OFFLINE_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def directory(here: Path) -> Path:
    """A whole directory of a small GPT-2."""
    made = here / "tiny"
    definition = build.define(config.Model(architecture=json.dumps(TINY)))
    with export.directory(made, force=False) as draft:
        zeros = {"/".join(name.split("/")): leaf for name, leaf in trees.named_leaves(definition.abstract)}
        tensors = {
            name: np.zeros(pretrained.published_shape(leaf, zeros[leaf].shape, row), np.float32)
            for leaf, row, names in pretrained.rows(definition)
            for name in names
        }
        save_file(tensors, draft / "model.safetensors")
        (draft / "config.json").write_text(json.dumps(TINY))
        byte.make().save(draft)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert app.main(["model", *arguments]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out) if "--json" in arguments and not code else captured.out + captured.err


def test_list_names_every_model_and_where_it_is(here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "many" / "qwen3-0.6b").mkdir(parents=True)
    (here / "own").mkdir()
    monkeypatch.setenv("CODEX_OFFLINE_MODELS_DIR", str(here / "many"))
    monkeypatch.setenv("CODEX_GPT2_PATH", str(here / "own"))
    rows = {row["alias"]: row for row in run(capsys, "list", "--json")}
    assert list(rows) == list(catalogue.entries())
    assert (rows["qwen3-0.6b"]["path"], rows["qwen3-0.6b"]["rule"]) == (
        str(here / "many" / "qwen3-0.6b"),
        "CODEX_OFFLINE_MODELS_DIR",
    )
    assert (rows["gpt2"]["path"], rows["gpt2"]["rule"]) == (str(here / "own"), "CODEX_GPT2_PATH")
    assert rows["mistral-7b-v0.1"]["path"] == "" and rows["gpt2"]["parameters"] == 124_439_808


def test_show_tells_sizes_and_memory_of_a_name_and_of_a_directory(directory: Path, capsys: Any) -> None:
    found = run(capsys, "show", "llama-3.2-1b", "--json")
    assert found["memory_bytes"] == {"parameters": 4 * 1_235_814_400, "training": 16 * 1_235_814_400}
    assert (found["architecture"]["num_kv_heads"], found["licence"]) == (8, "llama3.2")
    assert "16 x all before, rope 500000 llama3" in run(capsys, "show", "llama-3.2-1b")
    assert run(capsys, "show", str(directory), "--json")["architecture"]["width"] == 16
    assert "did you mean gpt2" in run(capsys, "show", "gpt22", code=2)


def test_show_says_what_is_known_of_published_files_and_what_is_not(capsys: Any) -> None:
    known = catalogue.entry("all-minilm-l6-v2").files
    found = run(capsys, "show", "all-minilm-l6-v2", "--json")
    assert found["hashes"] == [f"{name} {sha256}" for name, sha256 in known.items()] and found["revision"] is None
    said = run(capsys, "show", "gpt2")
    assert [line.split()[0] for line in said.splitlines() if line.endswith("none is known here")] == [
        "revision",
        "hashes",
    ]


@pytest.mark.parametrize(
    "word", ["fp32", "torch.bfloat16", "bf16", "half", "fp16", "torch.float", "float64", "fp8", ""]
)
def test_a_mod_3_export_takes_the_words_for_a_type_and_no_others(here: Path, capsys: Any, word: str) -> None:
    known = word not in ("float64", "fp8", "")
    said = run(capsys, "export", "no-run", "out", f"--dtype={word}", code=3 if known else 2)
    assert ("'float32', 'bfloat16', 'float16'" in said) != known


def test_import_reads_all_and_says_what_is_wrong(directory: Path, capsys: Any) -> None:
    found = run(capsys, "import", str(directory), "--json")
    assert found["digest"] == pretrained.digest(directory)
    assert found["next"] == f"--config.model.weights={directory}"
    run(capsys, "import", str(directory), f"--digest={found['digest']}")
    assert "and not 1234" in run(capsys, "import", str(directory), "--digest=1234", code=3)
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged: its tensors end at byte" in run(capsys, "import", str(directory), code=3)


def test_import_of_a_name_that_is_nowhere_names_the_places(here: Path, capsys: Any) -> None:
    said = run(capsys, "import", "tinyllama-offline", code=3)
    assert f"{here}/artifacts/models/tinyllama (artifacts/models)" in said and "CODEX_TINYLLAMA_PATH" in said
