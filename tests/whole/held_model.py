"""A family of models like GPT-2 whose forward pass hangs inside the device while there is a file hold/device.

It is found as one of an installed package: `install` writes what an installation would.
"""

import time
from pathlib import Path
from typing import Any

import jax

from codex_jax.models.decoder import Decoder
from codex_jax.models.families import gpt2


class Held(Decoder):
    """Calls the host from the device."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Return what GPT-2 does."""
        jax.debug.callback(_wait)
        return super().__call__(*args, **named)


def _wait() -> None:
    file = Path("hold") / "device"
    while file.exists():
        file.with_suffix(".held").touch()
        time.sleep(0.02)


FAMILY = gpt2.FAMILY._replace(name="held", make=Held)


def install(directory: Path) -> None:
    """Make the family known to who has the directory on its path."""
    info = directory / "held_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: held-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[codex_jax.models]\nheld = held_model:FAMILY\n")
