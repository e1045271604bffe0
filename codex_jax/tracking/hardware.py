"""The machine as far as it stays the same from one start to the next, and one digest of that."""

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from codex_jax import digest


def facts(devices: Sequence[str]) -> dict[str, Any]:
    """Return processor, cores, memory and devices, of which `devices` are the kinds; nothing that varies by the hour.

    Memory is in whole GiB: what a kernel keeps for itself is another amount after each update.
    """
    return {
        "cpu": _cpu(),
        "architecture": platform.machine(),
        "cores": {"logical": os.cpu_count(), "physical": psutil.cpu_count(logical=False)},
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "devices": list(devices),
    }


def fingerprint(found: dict[str, Any]) -> str:
    """Return the SHA-256 of the facts as canonical JSON."""
    return digest.of_json(found)


def _cpu() -> str:
    # By its name: the clock rates and flags that stand beside it change while the machine runs.
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware", "cpu model"):
                return value.strip()
    return platform.processor()
