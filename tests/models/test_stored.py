"""Values that are no finite numbers in a weight file: found in every type, wherever they are, named and counted."""

import json
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import small_weights
import written
from safetensors.numpy import load_file, save_file

from codex_jax import config
from codex_jax.cli import app
from codex_jax.errors import AssetError
from codex_jax.models import build, pretrained, quantize, stored, weight_files


pytestmark = pytest.mark.model

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def values(one: stored.Stored, *, turned: bool) -> np.ndarray[Any, Any]:
    return stored.read(one, stored.room(int(np.prod(one.shape))), turned=turned)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_one_value_is_found_wherever_it_is(tmp_path: Path, dtype: Any, bad: float, monkeypatch: Any) -> None:
    monkeypatch.setattr(stored, "BAND_BYTES", 64)
    for place in (0, 17, 76):
        matrix = np.random.default_rng(0).standard_normal((7, 11)).astype(dtype)
        matrix.reshape(-1)[place] = bad
        save_file({"fine": np.ones(3, dtype), "broken": matrix}, tmp_path / "model.safetensors")
        found = weight_files.tensors(tmp_path)
        assert [stored.num_not_finite(found[name]) for name in ("fine", "broken")] == [0, 1]
        for turned in (False, True):
            with pytest.raises(AssetError, match=r"model\.safetensors: tensor broken has values that are no finite"):
                values(found["broken"], turned=turned)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_the_smallest_numbers_are_numbers(tmp_path: Path, dtype: Any) -> None:
    limits = ml_dtypes.finfo(dtype)
    numbers = [limits.max, -limits.max, limits.smallest_subnormal, -limits.smallest_subnormal, 0.0, -0.0]
    array = np.array(numbers, dtype)
    for held in (array, array[:1], array[1:2], array[:0]):
        save_file({"a": held}, tmp_path / "model.safetensors")
        one = weight_files.tensors(tmp_path)["a"]
        assert stored.num_not_finite(one) == 0
        np.testing.assert_array_equal(values(one, turned=False), held.astype(np.float32))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A small GPT-2 with three values that are no numbers, in two tensors."""
    directory = small_weights.write(tmp_path / "weights")
    tensors = load_file(directory / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] = np.nan
    tensors["transformer.h.1.mlp.c_fc.weight"][0, 0] = np.inf
    tensors["transformer.wpe.weight"][-1, -1] = -np.inf
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_import_counts_them_and_names_the_first(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["model", "import", str(broken)]) == 3
    said = capsys.readouterr().err
    assert "3 values of the weights in" in said and "in 2 tensors: 1 in transformer.wpe.weight" in said


@pytest.mark.parametrize("mode", ["", "int8"])
def test_nothing_is_loaded_for_training_or_use(broken: Path, mode: str) -> None:
    definition = quantize.quantized(build.define(written.settings(broken)), config.Quantization(mode=mode))
    with pytest.raises(AssetError, match=r"tensor transformer\.(wpe|h\.1\.mlp\.c_fc)\.weight has values that are no"):
        jax.block_until_ready(pretrained.load(broken, definition, written.on_one_device(definition)))


def test_settings_of_the_model_are_still_shown(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["model", "show", str(broken), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "gpt2"
