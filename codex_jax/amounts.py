"""Amounts as people read them."""

from collections.abc import Sequence


_SHOWN = 3


def size(num_bytes: float) -> str:
    """Return bytes in the unit that fits: 60 bytes, 1.4 kB, 30.3 MB, 70.5 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= 0.99995 * unit:  # what would be rounded to 1,000.0 is one of the next unit
            return f"{num_bytes / unit:,.1f} {name}"
    return counted(round(num_bytes), "byte")


def counted(number: int, noun: str) -> str:
    """Return `1 file`, `2,000 files`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
