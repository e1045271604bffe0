"""The house rules that scripts/check holds, each broken once."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rules", ROOT / "scripts/rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("codex_jax/a.py", "x = 1\n" * 301, "301 lines"),
        ("codex_jax/a.py", "def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
        ("codex_jax/data/utils.py", "", "a module named utils"),
        ("codex_jax/common/a.py", "", "a module named common"),
        ("codex_jax/a.py", "print('hello')\n", "1: print"),
        ("codex_jax/a.py", "try:\n    f()\nexcept Exception:\n    pass\n", "hides the failure"),
        ("codex_jax/a.py", "try:\n    f()\nexcept (KeyError, Exception) as e:\n    pass\n", "hides the failure"),
        ("codex_jax/a.py", "try:\n    f()\nexcept:\n    raise\n", "catches everything"),
    ],
)
def test_module_rule_catches_a_violation(rules: ModuleType, path: str, source: str, complaint: str) -> None:
    found = list(rules.module(Path(path), source))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("codex_jax/console.py", "print('hello')\n"),
        ("codex_jax/a.py", "try:\n    f()\nexcept Exception as error:\n    raise ValueError from error\n"),
    ],
)
def test_module_rule_allows_what_is_right(rules: ModuleType, path: str, source: str) -> None:
    assert list(rules.module(Path(path), source)) == []


def test_lock_rule_catches_a_changed_dependency(rules: ModuleType, tmp_path: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    (tmp_path / "pyproject.toml").write_text(project)
    assert list(rules.lock(tmp_path)) == []
    (tmp_path / "pyproject.toml").write_text(project.replace('"numpy>=2.0"', '"numpy>=2.1"'))
    assert len(list(rules.lock(tmp_path))) == 1


def test_changelog_rule_catches_another_version(rules: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "codex_jax").mkdir()
    (tmp_path / "codex_jax/__init__.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0]\n\n## [0.1.0] - 2026-11-24\n")
    assert list(rules.changelog(tmp_path)) == []
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n")
    assert list(rules.changelog(tmp_path)) == [
        "CHANGELOG.md: the newest heading is 0.1.0, codex_jax.__version__ is 0.2.0"
    ]
