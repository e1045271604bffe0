"""Two GPUs as nvidia-ml-py shows them: the second is old, and has no counter of energy."""

# ruff: noqa: N802 - the names are NVML's

import types


NVML_TEMPERATURE_GPU = 0
asked = [0]


class NVMLError(Exception):
    pass


def nvmlInit() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return 2


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetUUID(handle: int) -> bytes:
    return f"GPU-{'ab'[handle]}0000000".encode()


def nvmlDeviceGetName(handle: int) -> str:
    return ("New", "Old")[handle]


def nvmlDeviceGetUtilizationRates(handle: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(gpu=(30, 70)[handle], memory=1)


def nvmlDeviceGetMemoryInfo(handle: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(total=80 << 30, used=(3 << 30, 5 << 30)[handle], free=0)


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    if handle == 1:
        raise NVMLError("Not Supported")
    return 61


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    return (400_000, 100_000)[handle]


def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:
    if handle == 1:
        raise NVMLError("Not Supported")
    asked[0] += 1
    return 7_000_000 + 250_000 * asked[0]  # millijoules: 250 J from one question to the next
