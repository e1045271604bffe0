"""What a run of adapters leaves, taken out to transformers and peft: the logits that it has here, merged or beside."""

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import observers
import pytest
import small_run
import small_weights
import test_families
from safetensors.numpy import load_file, save_file

from codex_jax import config, trees
from codex_jax.cli import app, model_files, opening
from codex_jax.data import pipeline
from codex_jax.models import lora, peft_files
from codex_jax.tokenizers import training


if TYPE_CHECKING:
    from conftest import RunMain

pytestmark = [pytest.mark.infra, pytest.mark.slow]

FREE = ("num_layers", "num_heads", "width", "vocab_size", "context_length")
SIZES = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "max_position_embeddings": 64}
BASES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {**SIZES, **HEADS, "model_type": "llama", "num_key_value_heads": 2},
    "bert": {**SIZES, **HEADS, "model_type": "bert", "architectures": ["BertForMaskedLM"]},
}
TARGETS = {"gpt2": "qkv,mlp/up", "llama": "query|value,mlp/down", "bert": "query|value,mlp/down"}
LEARNT = {
    "train.num_steps": 3,
    "optimizer.learning_rate": 0.05,
    "optimizer.warmup_steps": 0,
    "model.dropout": 0,
    **{f"model.{name}": 0 for name in FREE},
}
ENCODER = {"data.objective": "masked", "generate.prompt": "the [MASK] norm", "data.packing": "first_fit"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.write_corpus(tmp_path_factory.mktemp("corpus"))


def write_base(directory: Path, corpus: Path, name: str) -> Path:
    file = small_weights.write(directory, changes=BASES[name]) / "model.safetensors"
    # Of a size at which what is said and what is not differ.
    save_file(
        {one: 4 * values + (one.endswith("weight") and values.ndim == 1) for one, values in load_file(file).items()},
        file,
    )
    if name == "bert":
        texts = [path.read_text() for path in sorted(corpus.iterdir())]
        training.train(texts, 320, kind="wordpiece").save(directory)
        return directory
    settings = config.default()
    settings.tokenizer.vocab_size, settings.data.paths = 320, (str(corpus),)
    resolved = config.resolve(settings.to_dict())
    pipeline.make_tokenizer(resolved, observers.opened(resolved)).save(directory)
    return directory


def run_adapters(run_main: "RunMain", corpus: Path, tmp_path: Path, name: str, mode: str) -> tuple[Path, Path]:
    """A base, and a run that has trained adapters on it."""
    base, run = write_base(tmp_path / "base", corpus, name), tmp_path / "run"
    given = {**LEARNT, "model.weights": base, "adapter.rank": 2, "adapter.targets": TARGETS[name]}
    given |= {"quantization.mode": mode, **(ENCODER if name == "bert" else {})}
    done = run_main([*small_run.arguments(corpus, run, given), "--config.model.compute_dtype=float32"])
    assert done.returncode == 0, done.stderr
    return base, run


def torch_logits(torch: ModuleType, network: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: np.ndarray[Any, Any] = network.eval()(torch.from_numpy(tokens_BL).long()).logits.numpy()
    return found


@pytest.mark.parametrize("mode", ["", "nf4", "int8"])
@pytest.mark.parametrize("name", BASES)
def test_merged_or_with_the_adapter_beside_it_gives_the_logits_of_the_run(
    torch_oracle: ModuleType, run_main: "RunMain", corpus: Path, tmp_path: Path, name: str, mode: str
) -> None:
    peft = pytest.importorskip("peft")
    import transformers

    base, run = run_adapters(run_main, corpus, tmp_path, name, mode)
    made = opening.trained(run, None, [("parallel.data", "0")])
    whole = model_files._opened(run, None)  # on the base as it was published
    tokens_BL = np.random.default_rng(1).integers(0, 320, (2, 30)).astype(np.int32)
    trained = test_families.logits(made.model.definition, made.parameters, tokens_BL)
    expected = test_families.logits(whole.model.definition, whole.parameters, tokens_BL)
    if mode:  # what leaves is not rounded, so it is not quite what was trained
        assert 1e-3 < np.linalg.norm(trained - expected) / np.linalg.norm(expected) < 0.5
    else:
        np.testing.assert_array_equal(trained, expected)
    assert app.main(["model", "merge", str(run), str(tmp_path / "merged")]) == 0
    assert app.main(["model", "export", str(run), str(tmp_path / "adapter"), "--adapter"]) == 0
    kind = transformers.AutoModelForMaskedLM if name == "bert" else transformers.AutoModelForCausalLM
    merged, plain = (kind.from_pretrained(tmp_path / place) for place in ("merged", "base"))
    np.testing.assert_allclose(torch_logits(torch_oracle, merged, tokens_BL), expected, atol=2e-4)
    assert np.abs(torch_logits(torch_oracle, plain, tokens_BL) - expected).max() > 0.01
    adapted = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    np.testing.assert_allclose(torch_logits(torch_oracle, adapted, tokens_BL), expected, atol=2e-4)
    _check_what_changed(base, tmp_path / "merged", whole)


def _check_what_changed(base: Path, merged: Path, whole: opening.Trained) -> None:
    before, after = (load_file(place / "model.safetensors") for place in (base, merged))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    parts = peft_files.parts(whole.model.definition)
    named = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for part in parts for name in part.names}
    assert changed == {f"{name}.weight" for name in named}
    assert all(np.any(leaf) for _, leaf in trees.named_leaves(lora.split(whole.parameters)[1]))


def test_adapters_of_an_encoder_alone_are_saved_and_a_head_of_chance_is_refused(
    run_main: "RunMain", corpus: Path, tmp_path: Path
) -> None:
    _, run = run_adapters(run_main, corpus, tmp_path, "bert", "")
    kept = [name for name in small_run.arrays(run, 3) if name.startswith("parameters/")]
    assert kept == sorted(kept) and all("/lora_" in name for name in kept) and len(kept) == 6
    bare = tmp_path / "base"
    published = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**published, "architectures": ["BertModel"]}))
    given = {**LEARNT, **ENCODER, "model.weights": bare, "adapter.rank": 2, "model.ending": "hidden"}
    done = run_main(small_run.arguments(corpus, tmp_path / "other", given))
    assert done.returncode == 2 and "would stay at random values: name them in train.trainable" in done.stderr
    given["train.trainable"] = "lora_,transform,head_bias"
    done = run_main(small_run.arguments(corpus, tmp_path / "other", {**given, "quantization.mode": "nf4"}))
    assert done.returncode == 0, done.stderr
    assert "at random values begin head_bias/bias, transform/bias" in done.stdout + done.stderr
    assert app.main(["model", "merge", str(tmp_path / "other"), str(tmp_path / "merged")]) == 0
    assert app.main(["embed", str(tmp_path / "other"), "--text=the token", "--text=a loss"]) == 0
