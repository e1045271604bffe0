"""`codex-jax generate`: a run's newest checkpoint writes; the prompt and its answer pass the policy."""

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import test_families
import torch_models

from codex_jax import config, notebook, trees
from codex_jax.cli import app, opening
from codex_jax.models import lora, peft_files


pytestmark = pytest.mark.infra

KEY = "AK" + "IA" + "QYLPMN5HHHFPZAM2"


@pytest.fixture(scope="module")
def run(main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generate")
    corpus = small_run.write_corpus(root / "corpus")
    # The tests have eight devices, which share the batch.
    changes = {"train.num_steps": 8, "train.global_batch_size": 8, "train.microbatch_size": 8}
    process = small_run.start(small_run.arguments(corpus, root / "run", changes), main_env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return root / "run"


def generate(capsys: pytest.CaptureFixture[str], *args: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert app.main(["generate", *map(str, args), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_continues_prompts(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    (tmp_path / "prompt.txt").write_text("the token")
    found = generate(capsys, run, "--prompt=the model", "--prompt-file", tmp_path / "prompt.txt", "--num-tokens=12")
    assert [one["prompt"] for one in found] == ["the model", "the token"]
    assert all(one["text"] and one["num_tokens"] <= 12 for one in found)
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before  # nothing was written
    (alone,) = generate(capsys, run, "--prompt=the token", "--num-tokens=12")
    assert alone == found[1]
    assert generate(capsys, run, "--prompt=the token", "--num-tokens=12", "--seed=1") != [alone]
    whole = alone["prompt"] + alone["text"]
    for flag in ("--stream", "--no-stream"):
        assert app.main(["generate", str(run), "--prompt=the token", "--num-tokens=12", flag]) == 0
        assert capsys.readouterr().out == whole + "\n"
    model = notebook.open(run)
    assert model("the token", num_tokens=12) == whole


def test_wrong_and_blocked_prompts_exit_with_2(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refused(*args: str) -> str:
        capsys.readouterr()
        assert app.main(["generate", str(run), *args]) == 2
        return capsys.readouterr().err

    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules:\n  - {id: bird, patterns: heron, action: block}\n")
    assert "blocked by the safety policy (bird)" in refused("--prompt=a heron", f"--config.safety.policy={policy}")
    assert "nothing to continue" in refused()
    assert "num_tokens=64 are more than the 64 tokens" in refused("--prompt=x", "--num-tokens=64")
    assert "leave out --json" in refused("--prompt=x", "--stream", "--json")
    assert "temperature=-1.0 is too small" in refused("--prompt=x", "--temperature=-1")


@pytest.fixture(scope="module")
def published(torch_oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Weights as transformers writes them, with a tokenizer that puts a token before every text."""
    import tokenizers

    directory = tmp_path_factory.mktemp("published")
    made = torch_models.network("llama")
    names = ["<s>", "</s>", *(chr(ord("a") + number) for number in range(26))]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="a")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    inner.add_special_tokens(names[:2])
    made.save_pretrained(directory)
    inner.save(str(directory / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(roles))
    return directory, made


@pytest.fixture
def weights(published: tuple[Path, Any], tmp_path: Path) -> tuple[Path, Any]:
    """A copy that a test may change, and the model in torch."""
    return Path(shutil.copytree(published[0], tmp_path, dirs_exist_ok=True)), published[1]


def test_weights_of_transformers_write_what_they_write_there(
    weights: tuple[Path, Any], torch_oracle: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, peer = weights
    given = torch_oracle.tensor([[0, 4, 5, 6]])
    # Ours never writes rows of the model that the tokenizer has no token for.
    unknown = [[index] for index in range(28, 99)]
    expected = peer.generate(
        given,
        attention_mask=torch_oracle.ones_like(given),
        do_sample=False,
        max_new_tokens=12,
        bad_words_ids=unknown,
        pad_token_id=0,
    )[0, 4:].tolist()
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, expected[8]]}))
    end = expected.index(expected[8])
    args = (directory, "--prompt=c d e", "--num-tokens=12", "--temperature=0", "--config.model.compute_dtype=float32")
    (found,) = generate(capsys, *args)
    letters = [(["<s>", "</s>"] + [chr(97 + number) for number in range(26)])[index] for index in expected[:end]]
    assert found["prompt"].split() == ["c", "d", "e"] and found["text"].split() == letters
    assert app.main(["generate", str(directory), "--prompt=c", "--step=3"]) == 2
    assert "has no steps" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "most"), [("int8", 0.02), pytest.param("nf4", 0.2, marks=pytest.mark.slow)])
def test_weights_in_few_bits_write_and_their_logits_are_near(
    weights: tuple[Path, Any], capsys: pytest.CaptureFixture[str], mode: str, most: float
) -> None:
    directory, _ = weights
    exact, coded = (opening.published(directory, pairs) for pairs in ((), [("quantization.mode", mode)]))
    assert set(coded.definition.kernels) == {name for name in exact.definition.shapes if "kernel" in name}
    tokens_BL = np.random.default_rng(0).integers(0, 99, (2, 30)).astype(np.int32)
    before, after = (test_families.logits(one.definition, one.parameters, tokens_BL) for one in (exact, coded))
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert most / 20 < error < most
    args = (directory, "--prompt=c d e", "--num-tokens=5", "--temperature=0", f"--config.quantization.mode={mode}")
    (found,) = generate(capsys, *args)
    assert found["num_tokens"] == 5


def test_weights_write_with_an_adapter_beside_them(
    weights: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, _ = weights
    adapter = config.Adapter(rank=2, alpha=64.0, targets=("query", "down"))
    plain = opening.published(directory, ())
    definition = lora.adapted(plain.definition, adapter)
    adapters = jax.tree.map(lambda leaf: 0.3 + jnp.zeros(leaf.shape), lora.split(definition.abstract)[1])
    place = tmp_path_factory.mktemp("adapter")
    peft_files.write(place, definition, adapters, adapter, "base")
    made = opening.published(directory, [("adapter.weights", str(place))])
    jax.tree.map(np.testing.assert_array_equal, made.parameters, trees.joined(plain.parameters, adapters))
    args = (directory, "--prompt=c d e", "--num-tokens=5", "--temperature=0")
    assert generate(capsys, *args) != generate(capsys, *args, f"--config.adapter.weights={place}")
    assert app.main(["generate", str(directory), "--prompt=c", "--config.adapter.rank=2"]) == 2
    assert "adapter.rank=2 makes adapters to be trained: name adapter.weights" in capsys.readouterr().err


def test_a_name_of_the_catalogue_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.main(["generate", "qwen3-0.6b", "--prompt=x"]) == 3
    assert "artifacts/models/qwen3-0.6b" in capsys.readouterr().err


@pytest.mark.parametrize("ends", ['[1, "2"]', "-1", "1e3", "[99999999999999]", "[" * 100, '{"a": 1}'])
def test_an_end_token_that_is_none_is_named(
    weights: tuple[Path, Any], capsys: pytest.CaptureFixture[str], ends: str
) -> None:
    directory, _ = weights
    (directory / "generation_config.json").write_text(f'{{"eos_token_id": {ends}}}')
    assert app.main(["generate", str(directory), "--prompt=c"]) == 3
    assert "generation_config.json" in capsys.readouterr().err


def test_directories_that_are_neither_run_nor_weights_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert app.main(["generate", str(tmp_path), "--prompt=x"]) == 3
    assert "neither the directory of a run nor one of weights" in capsys.readouterr().err


def test_a_secret_in_a_prompt_is_redacted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = generate(capsys, run, f"--prompt=k {KEY}", "--num-tokens=4")
    assert KEY not in json.dumps(found) and found["prompt"].startswith("k [REDACTED:aws-key]")
