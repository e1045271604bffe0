"""The tests that compare with torch are skipped for one reason only, and never where torch was asked for."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType

import pytest


def test_oracle_skips_only_where_torch_cannot_be_imported(request: pytest.FixtureRequest) -> None:
    code = "import torch; print(torch.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        torch: ModuleType = request.getfixturevalue("torch_oracle")
        assert torch.__version__ == done.stdout.strip()
    else:
        assert "No module named 'torch'" in done.stderr
        with pytest.raises(pytest.skip.Exception, match="golden files"):
            request.getfixturevalue("torch_oracle")


def test_oracle_is_there_where_it_was_asked_for() -> None:
    if os.environ.get("CODEX_REQUIRE_ORACLE") == "1":
        assert importlib.util.find_spec("torch") is not None
        assert importlib.util.find_spec("peft") is not None
