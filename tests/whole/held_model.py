"""Models like GPT-2 whose forward pass hangs inside the device, always or while there is a file hold/device.

They are found as those of an installed package: `install` writes what an installation would.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

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


class Endless(Decoder):
    """Computes for ever, and nobody is called: it is dispatched at once, as all is on a GPU."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Return never."""
        output = super().__call__(*args, **named)
        zero = 0.0 * jax.lax.stop_gradient(jax.tree.leaves(output)[0]).astype(jnp.float32).sum()
        never = jax.lax.while_loop(lambda value: value < 1.0, lambda value: value * 0.5, zero)
        return jax.tree.map(lambda leaf: leaf + never.astype(leaf.dtype), output)


HELD = gpt2.FAMILY._replace(name="held", make=Held)
ENDLESS = gpt2.FAMILY._replace(name="endless", make=Endless)


def install(directory: Path) -> None:
    """Make the families known to who has the directory on its path."""
    info = directory / "held_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: held-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[codex_jax.models]\nheld = held_model:HELD\nendless = held_model:ENDLESS\n")
