"""`codex-jax generate`: a run's newest checkpoint writes; the prompt and its answer pass the policy."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_run
import torch_models

from codex_jax import notebook
from codex_jax.cli import app


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


@pytest.fixture
def weights(torch_oracle: ModuleType, tmp_path: Path) -> tuple[Path, Any]:
    """Weights as transformers writes them, with a tokenizer that puts a token before every text."""
    import tokenizers

    made = torch_models.network("llama")
    names = ["<s>", "</s>", *(chr(ord("a") + number) for number in range(26))]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="a")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    inner.add_special_tokens(names[:2])
    made.save_pretrained(tmp_path)
    inner.save(str(tmp_path / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(roles))
    return tmp_path, made


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


def test_directories_that_are_neither_run_nor_weights_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert app.main(["generate", str(tmp_path), "--prompt=x"]) == 3
    assert "neither the directory of a run nor one of weights" in capsys.readouterr().err


def test_a_secret_in_a_prompt_is_redacted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = generate(capsys, run, f"--prompt=k {KEY}", "--num-tokens=4")
    assert KEY not in json.dumps(found) and found["prompt"].startswith("k [REDACTED:aws-key]")
