"""What is installed: one version everywhere, a whole wheel, and commands that start before jax does."""

import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import codex_jax
from codex_jax import digest
from codex_jax.tracking import provenance


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "codex_jax"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without network by the locked hatchling."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "--wheel-dir", out, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_version_is_the_same_in_package_and_changelog() -> None:
    heading = re.search(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == codex_jax.__version__


def test_version_is_the_one_installed() -> None:
    assert importlib.metadata.version("codex-jax") == codex_jax.__version__


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == ours
    assert "codex_jax/py.typed" in packed


def test_default_policy_is_in_force_where_only_the_wheel_is_installed(
    wheel: Path, tmp_path: Path, main_env: dict[str, str]
) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, tmp_path / "site", wheel], check=True, capture_output=True)
    ask = (
        "import codex_jax.cli.app as app; print(app.__file__); app.main(['safety', 'explain', 'Leaked API_KEY=abc123'])"
    )
    env = {**main_env, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", ask], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "site")), done.stderr
    assert "train   redacted  Leaked API_KEY=[REDACTED:secret-value]" in done.stdout


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_provenance_tells_which_installation_runs(
    kind: str, wheel: Path, tmp_path: Path, main_env: dict[str, str]
) -> None:
    """Of a wheel its version and the digest of its RECORD, which is none of a checkout's git."""
    site = tmp_path / "site"
    source = [wheel] if kind == "wheel" else ["--no-build-isolation", "--editable", ROOT]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site]
    subprocess.run([*install, *source], check=True, capture_output=True)
    ask = (
        f"import json, site; site.addsitedir({str(site)!r}); import codex_jax; from pathlib import Path\n"
        "from codex_jax.tracking import provenance\n"
        "code = Path(codex_jax.__file__).parent\n"
        "print(json.dumps(provenance.collect(argv=[], digests={}, code=code)))"
    )
    path = str(site) if kind == "wheel" else f"{site}:{ROOT}"
    env = {**main_env, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", ask], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    installed = found["code"]["installed"]
    record = next(site.glob("*.dist-info/RECORD")).read_text().encode()  # its line ends aside
    assert (installed["kind"], installed["version"]) == (kind, codex_jax.__version__)
    assert installed["record_sha256"] == digest.of_bytes(record)
    assert found["versions"]["codex-jax"] == codex_jax.__version__
    assert (found["git"] is None) == (kind == "wheel")
    of_checkout = provenance.collect(argv=[], digests={}, code=PACKAGE)["code"]["sha256"]
    assert found["code"]["sha256"] == of_checkout
    assert installed["direct_url"]["url"].startswith("file://")


def test_wheel_names_version_license_and_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"codex_jax-{codex_jax.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: <3.14,>=3.11\n" in metadata


@pytest.mark.parametrize(
    "code",
    [
        "import codex_jax",
        "import codex_jax.config, codex_jax.errors",
        "import codex_jax.main; codex_jax.main.main(['--list-keys'])",
        "import contextlib, codex_jax.main\nwith contextlib.suppress(SystemExit): codex_jax.main.main(['--help'])",
    ],
)
def test_start_does_not_import_jax(code: str, main_env: dict[str, str]) -> None:
    heavy = ("jax", "jaxlib", "flax", "grain", "orbax", "mlflow", "wandb", "transformers", "numpy")
    ask = f"{code}\nimport sys\nprint('LOADED', [name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], env=main_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_help_exits_with_0_and_names_the_config_flag(run_main) -> None:
    done = run_main(["--help"])
    assert done.returncode == 0
    assert "--config" in done.stdout
    assert done.stderr == ""
