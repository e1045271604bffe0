"""What a run that goes on says of itself: whether it goes on to the bit, judged by the machines it was saved on."""

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import pytest

from codex_jax.journal import dossier
from codex_jax.tracking import ledger
from codex_jax.tracking.writer import Writer


pytestmark = pytest.mark.infra

ENDED: Any = types.SimpleNamespace(over="", num_steps=8)


@pytest.mark.parametrize(
    ("shards", "changes", "exact"),
    [
        (0, {}, True),
        (0, {"devices": 99}, False),
        (0, {"processes": 2}, False),
        (4, {"devices": 99, "processes": 2}, True),
        (4, {"kind": "TPU v9"}, False),
        (0, None, None),
    ],
)
def test_run_that_goes_on_says_whether_to_the_bit(
    writer: Writer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shards: int,
    changes: Mapping[str, Any] | None,
    exact: bool | None,
) -> None:
    saved: dict[str, Any] = {"settings": {"parallel": {"deterministic_reduction": shards}}}
    if changes is not None:
        saved["machines"] = {**dossier.machines(), **changes}
    dossier.resume_run(writer, {"safety": {}}, saved, 4, (), ENDED, {})
    (row,) = ledger.read(tmp_path / ledger.EVENTS)
    assert (row["event"], row["from_step"], row["bit_exact"]) == ("run.resumed", 4, exact)
    warned = "not bit-exact from here on: step 4 was saved on " in capsys.readouterr().err
    assert warned == (exact is False)
    assert dossier.machines()["devices"] == jax.device_count()
