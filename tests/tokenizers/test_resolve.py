"""Where a tokenizer is found without network: the order of the places, and what is said when it is in none."""

from pathlib import Path

import kinds_examples
import pytest

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, resolve


pytestmark = pytest.mark.data


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A directory for each rule, all of them with a tokenizer, none of them named yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("CODEX_GPT2_TOKENIZER_PATH", *resolve.ROOTS):
        monkeypatch.delenv(name, raising=False)
    found = {
        "tokenizer.path": tmp_path / "given",
        "CODEX_GPT2_TOKENIZER_PATH": tmp_path / "named",
        "CODEX_OFFLINE_MODELS_DIR": tmp_path / "models" / "gpt2",
        "CODEX_OFFLINE_TOKENIZERS_DIR": tmp_path / "tokenizers" / "gpt2",
        "artifacts/models": tmp_path / "artifacts" / "models" / "gpt2",
    }
    for path in found.values():
        kinds_examples.LOSSLESS["byte"].save(path)
    return found


def set_all(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_GPT2_TOKENIZER_PATH", str(places["CODEX_GPT2_TOKENIZER_PATH"]))
    for root in resolve.ROOTS:
        monkeypatch.setenv(root, str(places[root].parent))


def test_places_count_in_their_order(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(places, monkeypatch)
    found = resolve.resolve("gpt2", str(places["tokenizer.path"]))
    assert (found.path, found.rule, len(found.checked)) == (places["tokenizer.path"], "tokenizer.path", 1)
    for rule in list(places)[1:]:
        found = resolve.resolve("gpt2", "")
        assert (found.path, found.rule) == (places[rule], rule)
        assert found.checked[-1] == resolve.Checked(places[rule], rule, True)
        assert not any(one.found for one in found.checked[:-1])
        monkeypatch.delenv(rule, raising=False)


def test_next_root_is_looked_at_when_one_does_not_have_it(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(places, monkeypatch)
    monkeypatch.delenv("CODEX_GPT2_TOKENIZER_PATH")
    places["CODEX_OFFLINE_MODELS_DIR"].rename(tmp_path / "elsewhere")
    found = resolve.resolve("gpt2", "")
    assert found.rule == "CODEX_OFFLINE_TOKENIZERS_DIR"
    assert [one.found for one in found.checked] == [False, True]


@pytest.mark.parametrize("variable", ["CODEX_GPT2_TOKENIZER_PATH", *resolve.ROOTS])
def test_variable_that_points_nowhere_is_an_error(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere/at/all")
    with pytest.raises(AssetError, match=rf"{variable}=/nowhere/at/all"):
        resolve.resolve("gpt2", "")
    with pytest.raises(AssetError, match=rf"{variable}=/nowhere/at/all"):
        loading.given(config.Tokenizer(name="gpt2"))
    assert resolve.resolve("gpt2", str(places["tokenizer.path"])).path == places["tokenizer.path"]


def test_path_that_does_not_exist_is_an_error_whatever_the_environment_has(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(places, monkeypatch)
    with pytest.raises(AssetError, match=r"tokenizer\.path=gone does not exist"):
        resolve.resolve("gpt2", "gone")


def test_asset_that_is_nowhere_lists_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in resolve.ROOTS:
        (tmp_path / root).mkdir()
        monkeypatch.setenv(root, str(tmp_path / root))
    with pytest.raises(AssetError) as caught:
        resolve.resolve("tinyllama", "")
    for place in (*resolve.ROOTS, "artifacts/models"):
        assert str(tmp_path / place / "tinyllama") in str(caught.value)
    assert "CODEX_TINYLLAMA_TOKENIZER_PATH" in str(caught.value)


def test_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"gtp2 is not known \(did you mean gpt2\?\); there are: gpt2, tinyllama"):
        resolve.resolve("gtp2", "")


def test_origin_names_kind_and_rule(places: dict[str, Path]) -> None:
    origin = loading.origin(config.Tokenizer(name="gpt2"))
    assert origin == ("hf", "artifacts/models", places["artifacts/models"])
    assert loading.origin(config.Tokenizer(kind="byte")) == ("byte", "needs no file", None)
    assert loading.origin(config.Tokenizer()) == ("hf", "trained on these data", None)
