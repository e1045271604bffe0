"""The registry: names in any case, conflicts and broken packages named, nothing imported before it is asked for."""

import sys
from pathlib import Path

import pytest

from codex_jax import cache
from codex_jax.errors import AssetError, ConfigError
from codex_jax.registry import Registry


pytestmark = pytest.mark.infra

GROUP = "codex_jax.test_parts"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose entry points are found like any installed one's."""
    info = tmp_path / "some_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nGood = some_parts:PART\nbroken = some_parts_broken:PART\nshared = some_parts:PART\n"
    )
    (tmp_path / "some_parts.py").write_text("PART = 'from the package'\n")
    (tmp_path / "some_parts_broken.py").write_text("raise RuntimeError('no such device')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def make() -> Registry[str]:
    registry: Registry[str] = Registry(GROUP)
    registry.register("Plain", "built in", source="here")
    registry.register("shared", "built in", source="here")
    return registry


def test_sources_tell_where_each_part_is_from(installed: Path) -> None:
    assert make().sources() == {
        "broken": "entry point some_parts_broken:PART of some-parts",
        "good": "entry point some_parts:PART of some-parts",
        "plain": "built-in, here",
        "shared": "built-in, here and entry point some_parts:PART of some-parts",
    }
    assert "some_parts" not in sys.modules


def test_names_are_found_in_any_case() -> None:
    assert make().get("pLAIN") == "built in"


def test_entry_point_is_listed_without_import_and_loaded_on_use(installed: Path) -> None:
    registry = make()
    assert registry.names() == ["broken", "good", "plain", "shared"]
    assert "some_parts" not in sys.modules
    assert registry.get("good") == "from the package"


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no 'plian' \(did you mean plain\?\); there are: plain, shared"):
        make().get("plian")


def test_broken_package_is_named_and_hinders_no_other(installed: Path) -> None:
    registry = make()
    with pytest.raises(
        ConfigError, match=r"'broken' from some_parts_broken:PART of some-parts cannot be loaded.*device"
    ):
        registry.get("broken")
    assert registry.get("plain") == "built in"


def test_conflict_names_both_sources(installed: Path) -> None:
    registry = make()
    with pytest.raises(ConfigError, match=r"'shared' is defined twice: by here and by some_parts:PART of some-parts"):
        registry.get("shared")
    with pytest.raises(ConfigError, match=r"'PLAIN' is defined twice: by here and by there"):
        registry.register("PLAIN", "again", source="there")


def test_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path / "own"))
    assert cache.directory("part") == tmp_path / "own" / "part"
    monkeypatch.delenv("CODEX_CACHE_DIR")
    assert cache.root() == tmp_path / "xdg" / "codex_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache" / "codex_jax"


def test_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CODEX_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(AssetError, match=r"cannot be made .*name another in CODEX_CACHE_DIR"):
        cache.directory("part")
