"""Embeddings: MiniLM's real weights against transformers, and that neither padding nor neighbours change a vector."""

import functools
import json
import shutil
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codex_jax import config
from codex_jax.cli import app
from codex_jax.encoders import embedding, reading
from codex_jax.encoders.embedding import Embedder
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build
from codex_jax.tokenizers import training


pytestmark = pytest.mark.model

LINE = "the cat sat on a mat and then it ran home because rain fell over green hills near our old mill"
WORDS = LINE.split()
TEXTS = [" ".join(WORDS[at % 7 : at % 7 + 1 + at % 13]) + f" {at}" for at in range(50)]


@pytest.fixture(scope="module")
def small(torch_oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder written by transformers, with a tokenizer trained here."""
    import transformers

    directory = tmp_path_factory.mktemp("small")
    tokenizer = training.train(TEXTS, 99, kind="wordpiece")
    assert tokenizer.vocab_size <= 99
    tokenizer.save(directory)
    torch_oracle.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = transformers.BertConfig(vocab_size=99, max_position_embeddings=64, **sizes)
    transformers.BertModel(shape).save_pretrained(directory)
    return directory


def test_minilm_equals_transformers_with_mean_pooling(torch_oracle: ModuleType, minilm: Path) -> None:
    import transformers

    texts = [*TEXTS[:48], "Ünïcödé 你好, don't!", " ".join(300 * ["long"])]
    found = embedding.load(minilm)(texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    network = transformers.AutoModel.from_pretrained(minilm).eval()
    rows = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch_oracle.no_grad():
        hidden, mask = network(**rows).last_hidden_state, rows["attention_mask"][..., None]
    expected = torch_oracle.nn.functional.normalize((hidden * mask).sum(1)).numpy()
    assert found.shape == (50, 384) and found.dtype == np.float32
    assert np.sum(found * expected, axis=1).min() >= 0.99999
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_model_without_a_pooler_gives_the_same_vectors(small: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(small, tmp_path / "bare")
    tensors = load_file(bare / "model.safetensors")
    assert any(name.startswith("pooler.") for name in tensors)
    save_file({name: one for name, one in tensors.items() if "pooler" not in name}, bare / "model.safetensors")
    np.testing.assert_array_equal(embedding.load(bare)(TEXTS[:3]), embedding.load(small)(TEXTS[:3]))
    assert app.main(["model", "import", str(bare)]) == 0


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_whatever_a_model_ends_in_its_vectors_are_of_the_hidden_states(
    torch_oracle: ModuleType, small: Path, tmp_path: Path, name: str
) -> None:
    import transformers

    bare = shutil.copytree(small, tmp_path / "other")
    network = getattr(transformers, name)(transformers.BertConfig.from_pretrained(small))
    network.bert.load_state_dict(transformers.BertModel.from_pretrained(small).state_dict(), strict=False)
    network.save_pretrained(bare)
    np.testing.assert_allclose(embedding.load(bare)(TEXTS[:3]), embedding.load(small)(TEXTS[:3]), atol=1e-6)


def test_a_vector_does_not_depend_on_batch_or_order(small: Path) -> None:
    embed = embedding.load(small)
    found = embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(embed(TEXTS[::-1], batch_size=3)[::-1], found, atol=1e-5)
    np.testing.assert_allclose(embed(TEXTS[7:8], batch_size=1)[0], found[7], atol=1e-5)
    assert embed([]).shape == (0, 48)


def test_padding_on_either_side_gives_the_same_vector(small: Path) -> None:
    definition = build.define(config.Model(weights=str(small), compute_dtype="float32"))
    parameters = build.initial(config.Model(weights=str(small)), jax.random.key(0))
    tokens_L = np.arange(5, 14, dtype=np.int32)
    tokens_BM, mask_BM = np.full((3, 15), 7, np.int32), np.zeros((3, 15), np.int32)
    for row, left in enumerate((0, 2, 6)):
        tokens_BM[row, left : left + 9], mask_BM[row, left : left + 9] = tokens_L, 1
    run = jax.jit(functools.partial(embedding.mean_pooled, definition))
    expected_D = run(parameters, tokens_L[None], np.ones((1, 9), np.int32))[0]
    for found_D in run(parameters, tokens_BM, mask_BM):
        np.testing.assert_allclose(found_D, expected_D, atol=1e-5)


def test_a_long_text_is_cut_inside_its_frame(small: Path) -> None:
    embed = embedding.load(small, max_length=8)
    long = " ".join(WORDS)
    framed = embed._framed(embed._tokenizer.encode([long])[0])
    assert len(framed) == 8
    assert [framed[0], framed[-1]] == [embed._tokenizer.bos_id, embed._tokenizer.eos_id]
    (small / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    assert embedding.load(small).max_length == 12
    (small / "sentence_bert_config.json").unlink()


def test_what_cannot_embed_is_refused(small: Path, tmp_path: Path) -> None:
    decoder = build.define(config.Model())
    with pytest.raises(ConfigError, match="reads forwards"):
        Embedder(decoder, {}, embedding.load(small)._tokenizer)
    with pytest.raises(ConfigError, match="reads up to 64"):
        embedding.load(small, max_length=65)
    other = shutil.copytree(small, tmp_path / "other")
    (other / "model.safetensors").write_bytes((small / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(AssetError, match=r"model\.safetensors"):
        embedding.load(other)


def test_command_prints_cosines_or_vectors(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_jax.console.prepare", lambda: None)
    (tmp_path / "lines.txt").write_text("the cat sat\n\non a mat\n")
    given = [str(small), "--text", "the cat sat", "--lines", str(tmp_path / "lines.txt")]
    assert app.main(["embed", *given]) == 0
    out = capsys.readouterr().out
    assert "3 texts, 48 numbers each" in out and out.count("1.0000") == 2
    assert app.main(["embed", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["width"] == 48 and len(found["texts"][2]["vector"]) == 48
    assert app.main(["embed", str(small)]) == 2
    assert "no text" in capsys.readouterr().err
    assert app.main(["embed", str(small), "--text=a", "--step=3"]) == 2
    assert "has no steps" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert app.main(["embed", "all-minilm-l6-v2", "--text=a"]) == 3
    assert "artifacts/models/all-minilm-l6-v2" in capsys.readouterr().err
    (tmp_path / "artifacts" / "models").mkdir(parents=True)
    shutil.copytree(small, tmp_path / "artifacts" / "models" / "all-minilm-l6-v2")
    assert app.main(["embed", "all-minilm-l6-v2", *given[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == found["texts"]
    assert app.main(["embed", "nothing", "--text=a"]) == 3


@pytest.mark.parametrize("length", ["12", -1, 1.5, [12], True])
def test_a_length_that_is_none_is_named(small: Path, tmp_path: Path, length: object) -> None:
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))
    with pytest.raises(AssetError, match=r"has max_seq_length=.*; it must be a whole number"):
        reading.limit(tmp_path)
