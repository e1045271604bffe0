"""The pages on tuning, models, generation, checkpoints and monitoring, followed word for word, one after another."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


pytestmark = [pytest.mark.infra, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
# A page that begins with a model of its own trains it this long here.
FIRST = "scripts/train --config=configs/gpt2.py:tiny"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of a checkout the pages name, and its two commands as they are in an activated environment."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "docs", "codex_jax"):
        shutil.copytree(ROOT / name, directory / name)
    for name, module in (("scripts/train", "codex_jax.main"), ("bin/codex-jax", "codex_jax.cli.app")):
        path = directory / name
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        path.chmod(0o755)
    return directory


def commands(page: str) -> list[str]:
    """Return the commands of a page: what is indented, or follows a $, calls one of the two, and needs no network."""
    text = re.sub(r" \\\n +", " ", (ROOT / "docs" / page).read_text())
    return re.findall(r"^(?:    |\$ )((?:scripts/train|codex-jax(?! model download)) .*)$", text, re.MULTILINE)


def follow(checkout: Path, env: dict[str, str], lines: list[str]) -> None:
    env = {**env, "PYTHONPATH": str(checkout), "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=checkout, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_every_command_of_the_pages_works(checkout: Path, main_env: dict[str, str]) -> None:
    first, *rest = commands("finetuning.md")
    assert first == FIRST and len(rest) > 6
    follow(checkout, main_env, [f"{first} --config.train.num_steps=30", *rest])
    models, (again, *writing) = commands("models.md"), commands("generation.md")
    assert len(models) > 5 and again == FIRST and writing
    follow(checkout, main_env, [*models, *writing])
    assert (checkout / "tuned" / "model.safetensors").is_file()


def test_commands_for_checkpoints_work(checkout: Path, main_env: dict[str, str]) -> None:
    lines = commands("checkpoints.md")
    (goes_on,), rest = lines[: lines.index(FIRST)], lines[lines.index(FIRST) + 1 :]
    assert len(rest) > 7
    follow(checkout, main_env, [f"{FIRST} --config.train.num_steps=30"])
    shutil.copytree(checkout / "runs/gpt2-tiny", checkout / "runs/copy")
    shutil.copytree(checkout / "runs/gpt2-tiny/checkpoints/30", checkout / "aside/30")
    follow(checkout, main_env, [re.sub(r"(checkpoints|aside)/900", r"\1/30", line) for line in rest])
    follow(checkout, main_env, [goes_on.replace("1500", "40")])
    assert (checkout / "runs/gpt2-tiny/checkpoints/40").is_dir()


def test_commands_for_monitoring_work(checkout: Path, main_env: dict[str, str]) -> None:
    """But for the one that needs a server; trainings are as short as the profile allows."""
    first, *rest = commands("monitoring.md")
    assert first.startswith(FIRST) and len(rest) > 9
    trainings = [f"{line} --config.train.num_steps=60" for line in rest if line.startswith("scripts/train")]
    looks = [line for line in rest if line.startswith("codex-jax") and "localhost" not in line]
    runs = checkout / "runs"
    follow(checkout, main_env, [f"{first} --config.train.num_steps=60 --workdir=runs/seen", *trainings])
    for name in "abc":
        shutil.copytree(runs / "seen", runs / name)
    follow(checkout, main_env, [line.replace("gpt2-tiny", "seen") for line in looks])
    assert list((runs / "profile").glob("profile/**/*.xplane.pb")) and (runs / "seen-again").is_dir()
    assert (checkout / "compared.html").is_file() and (checkout / "gpt2.parquet").is_file()


def test_peft_has_the_logits_of_the_merged_model(checkout: Path, torch_oracle: ModuleType) -> None:
    """The page's own lines; what the first test made is there."""
    from transformers import AutoModelForCausalLM

    page = (ROOT / "docs/finetuning.md").read_text()
    (lines,) = re.findall(r"^    from peft(?:.*\n    )*.*\n\n    model = .*$", page, re.MULTILINE)
    code = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    made: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(checkout)
    try:
        exec(code, made)
        merged = AutoModelForCausalLM.from_pretrained("merged")
    finally:
        os.chdir(before)
    ids_BL = torch_oracle.arange(48)[None] * 7
    with torch_oracle.no_grad():
        one, other = (model(ids_BL).logits.numpy() for model in (made["model"], merged))  # type: ignore[operator]
    np.testing.assert_allclose(one, other, atol=2e-4)
