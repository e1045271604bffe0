"""A family of models like GPT-2 whose forward pass in training hangs inside the device while there is hold/device.

It is found as one of an installed package: `install` writes what an installation would.
"""

import time
from pathlib import Path

import jax

from codex_jax.models.decoder import Decoder
from codex_jax.models.families import gpt2


class Held(Decoder):
    """Calls the host from the device where dropout is on, which is in training."""

    def __call__(
        self, tokens_BL: jax.Array, segments_BL: jax.Array, positions_BL: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Return what GPT-2 does."""
        if key is not None:
            jax.debug.callback(_wait)
        return super().__call__(tokens_BL, segments_BL, positions_BL, key)


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
