"""Training that begins with the weights of a directory: they are trained, named in every record, and needed once."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import observers
import pytest
import small_run

from codex_jax import config
from codex_jax.cli import app
from codex_jax.data import pipeline
from codex_jax.models import build, export, pretrained, receipt
from codex_jax.tokenizers import loading
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parents[2]
LLAMA = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def weights(corpus: Path, tmp_path: Path) -> Path:
    """A directory with a small Llama and a tokenizer."""
    model = config.Model(architecture=json.dumps(LLAMA))
    parameters = jax.jit(lambda: build.initial(model, jax.random.key(7)))()
    settings = config.default()
    settings.tokenizer.vocab_size, settings.data.paths = 300, (str(corpus),)
    trained = config.resolve(settings.to_dict())
    tokenizer = pipeline.make_tokenizer(trained, observers.opened(trained))
    with export.directory(tmp_path / "weights", force=False) as draft:
        export.write(draft, build.define(model), parameters, dtype="float32")
        tokenizer.save(draft)
    return tmp_path / "weights"


def arguments(corpus: Path, workdir: Path, changes: Mapping[str, Any]) -> list[str]:
    keys = {
        "data.paths": corpus,
        "data.sequence_length": 32,
        "data.document_bytes": 512,
        "data.window_bytes": 8192,
        "data.validation_fraction": 0.2,
        "train.num_steps": 8,
        "train.global_batch_size": 4,
        "train.log_every": 1,
        "checkpoint.every_steps": 4,
        "eval.num_batches": 2,
        "generate.num_tokens": 8,
        "tracking.tensorboard.enabled": False,
        **changes,
    }
    given = [f"--config.{key}={value}" for key, value in keys.items()]
    return [f"--config={ROOT}/configs/finetune.py", f"--workdir={workdir}", *given]


def test_a_run_begins_with_the_weights_and_says_so(
    corpus: Path, weights: Path, tmp_path: Path, run_main: Callable[..., Any]
) -> None:
    still = {"optimizer.learning_rate": 0, "optimizer.final_learning_rate": 0}
    sha256 = pretrained.digest(weights)
    came = {"repository": "some-one/tiny", "commit": 40 * "a"}
    receipt.write(weights, {**came, "digest": sha256, "files": {}})
    done = run_main(arguments(corpus, tmp_path / "run", {"model.weights": weights, **still}))
    assert done.returncode == 0, done.stderr
    assert f"weights    sha256 {sha256[:12]}, {weights}" in done.stdout
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["digests"]["weights"] == sha256
    first = next(ledger.read(tmp_path / "run" / ledger.EVENTS))
    assert first["weights"] == {"path": str(weights), "digest": sha256, **came}
    assert (first["tokenizer"]["rule"], first["tokenizer"]["path"]) == ("tokenizer.path", str(weights))
    definition = build.define(config.Model(weights=str(weights)))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    expected = pretrained.load(weights, definition, jax.tree.map(lambda leaf: place, definition.abstract))
    _check_export(tmp_path / "run", weights, tmp_path / "out")
    found = small_run.arrays(tmp_path / "run", 8)
    np.testing.assert_array_equal(found["parameters/tokens/embedding"], expected["tokens"]["embedding"])
    np.testing.assert_array_equal(found["parameters/blocks/mlp/up/kernel"], expected["blocks"]["mlp"]["up"]["kernel"])


def _check_export(run: Path, weights: Path, out: Path) -> None:
    """What was imported and did not change in training goes out again byte for byte, and transformers takes it."""
    assert app.main(["model", "export", str(run / "checkpoints" / "8"), str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert app.main(["model", "export", str(run), str(out)]) == 3
    assert app.main(["model", "export", str(run), str(out), "--force", "--dtype=bfloat16"]) == 0
    assert app.main(["model", "merge", str(run), str(out), "--force"]) == 2
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    tokenizer = loading.load(out)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_id
    assert app.main(["model", "import", str(out)]) == 0
    assert app.main(["model", "import", str(out), "--digest=0000"]) == 3
    if importlib.util.find_spec("torch"):
        import transformers

        made = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto")
        assert str(made.dtype) == "torch.bfloat16" and made.config.eos_token_id == tokenizer.eos_id
        ids = transformers.AutoTokenizer.from_pretrained(out)("the model")["input_ids"]
        assert ids == tokenizer.encode(["the model"])[0].tolist()


@pytest.mark.slow
def test_a_run_goes_on_without_the_directory_and_ends_as_if_it_was_never_stopped(
    corpus: Path, weights: Path, tmp_path: Path, main_env: dict[str, str]
) -> None:
    changes = {"model.weights": weights, "checkpoint.every_steps": 2, "train.num_steps": 16}
    for name in ("straight", "stopped"):
        process = small_run.start(arguments(corpus, tmp_path / name, changes), main_env)
        if name == "straight":
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
            continue
        small_run.wait_for(process, "step 12/")
        process.kill()
        process.communicate()
    shutil.rmtree(weights)
    again = small_run.start(arguments(corpus, tmp_path / "stopped", changes), main_env)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "resume     from step" in output, output
    assert small_run.state_digest(tmp_path / "stopped", 16) == small_run.state_digest(tmp_path / "straight", 16)
    events = list(ledger.read(tmp_path / "stopped" / ledger.EVENTS))
    started, resumed = (next(row for row in events if row["event"] == f"run.{name}") for name in ("started", "resumed"))
    assert started["weights"] == resumed["weights"]


@pytest.mark.parametrize(
    ("case", "code", "complaint"),
    [
        ("family", 2, "model.name=gpt2 is of family gpt2, and"),
        pytest.param("tokenizer", 2, "there is no tokenizer with the weights", marks=pytest.mark.slow),
        ("pickle", 3, "such files can hold programs, so they are never opened"),
        pytest.param("missing", 3, "1 tensors differ:\n  model.norm.weight: is missing", marks=pytest.mark.slow),
        pytest.param(
            "offline", 3, "the model gpt2-offline is nowhere on this machine; looked at:", marks=pytest.mark.slow
        ),
    ],
)
def test_what_is_wrong_with_weights_ends_in_one_message(
    corpus: Path, weights: Path, tmp_path: Path, run_main: Callable[..., Any], case: str, code: int, complaint: str
) -> None:
    changes = {"model.weights": weights}
    if case == "family":
        changes["model.name"] = "gpt2"
    if case == "tokenizer":
        (weights / "tokenizer.json").unlink()
    if case == "pickle":
        (weights / "model.safetensors").rename(weights / "pytorch_model.bin")
    if case == "missing":
        from safetensors.numpy import load_file, save_file

        tensors = load_file(weights / "model.safetensors")
        del tensors["model.norm.weight"]
        save_file(tensors, weights / "model.safetensors")
    if case == "offline":
        changes = {"model.name": "gpt2-offline"}
    done = run_main(arguments(corpus, tmp_path / "run", changes))
    assert done.returncode == code, done.stderr + done.stdout
    assert complaint in done.stderr and "Traceback" not in done.stderr
