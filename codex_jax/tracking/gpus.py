"""What the GPUs of this process do, read from NVML: utilisation, memory, temperature, power and energy."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any


OFF = "CODEX_DISABLE_NVML"


class Unread(Exception):
    """There are no figures of GPUs; the message says why."""


class Gpus:
    """Reads the GPUs that CUDA_VISIBLE_DEVICES leaves to this process, or all; one thread at a time calls it."""

    def __init__(self) -> None:
        """Open NVML; Unread when it is switched off, not installed or does not answer."""
        if os.environ.get(OFF, "") not in ("", "0"):
            raise Unread(f"{OFF} is set")
        try:
            import pynvml
        except ImportError:
            raise Unread("nvidia-ml-py is not installed: pip install 'codex-jax[gpu]'") from None
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
            self._cards = [_Card(pynvml, handles[index]) for index in visible(uuids)]
        except pynvml.NVMLError as error:
            raise Unread(f"NVML does not answer: {error}") from None

    @property
    def names(self) -> list[str]:
        """What the GPUs are called."""
        return [card.name for card in self._cards]

    def read(self) -> dict[str, float]:
        """Return the figures of all GPUs, and their energy in joules since this object was made."""
        cards = [card.read() for card in self._cards]
        found = {f"gpu{index}_{name}": value for index, card in enumerate(cards) for name, value in card.items()}
        if busy := [card["util_percent"] for card in cards if "util_percent" in card]:
            found["gpu_util_mean_percent"] = sum(busy) / len(busy)
        if spent := [joules for card in self._cards if (joules := card.joules()) is not None]:
            found["energy_joules"] = sum(spent)
        return found


class _Card:
    """One GPU. What it does not measure is left out."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.name = _text(nvml.nvmlDeviceGetName(handle))
        self._nvml, self._handle = nvml, handle
        self._first = self._counter()
        self._power: tuple[float, float] | None = None  # when it was asked last, and what it was
        self._joules: float | None = 0.0 if self._first is not None else None

    def read(self) -> dict[str, float]:
        nvml, handle = self._nvml, self._handle
        asked: dict[str, float | None] = {
            "util_percent": self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "memory_used_bytes": self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "temperature_celsius": self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "power_watts": self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        }
        found = {name: value for name, value in asked.items() if value is not None}
        self._meter(found.get("power_watts"))
        return found

    def joules(self) -> float | None:
        """Return its energy up to the last reading."""
        return self._joules

    def _meter(self, watts: float | None) -> None:
        if self._first is not None:
            now = self._counter()
            self._joules = self._joules if now is None else now - self._first
        elif watts is not None:  # cards before Volta have no counter
            now = time.monotonic()
            since, before = self._power or (now, watts)
            self._joules = (self._joules or 0.0) + (now - since) * (before + watts) / 2
            self._power = now, watts

    def _counter(self) -> float | None:
        return self._ask(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000)

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def visible(uuids: Sequence[str]) -> list[int]:
    """Return which of the GPUs CUDA shows to this process, in its order; as CUDA does, up to the first it cannot find.

    Numbers are NVML's, by PCI bus; CUDA's are others only where a machine has cards of several kinds.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for name in (part.strip() for part in chosen.split(",")):
        fits = [index for index, uuid in enumerate(uuids) if str(index) == name or (name and uuid.startswith(name))]
        if not fits:
            break
        found.append(fits[0])
    return found


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found  # older nvidia-ml-py answers in bytes
