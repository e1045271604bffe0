"""What a run prints: the progress line and the table at the end, both at most 80 columns wide."""

from collections.abc import Sequence


WIDTH = 80


def line(
    step: int,
    num_steps: int,
    *,
    loss: float,
    tokens_per_sec: float,
    mfu: float | None,
    secs_left: float,
) -> str:
    """Return `step   120/600  loss 4.321  12.3k tok/s  mfu 31%  left 1m23s`; `mfu` is a fraction or None."""
    width = max(5, len(str(num_steps)))
    share = "  -" if mfu is None else f"{100 * mfu:2.0f}%"
    digits = ".3f" if abs(loss) < 1e4 else ".3g"
    text = (
        f"step {step:>{width}}/{num_steps}  loss {loss:{digits}}  {count(tokens_per_sec)} tok/s  "
        f"mfu {share}  left {duration(secs_left)}"
    )
    return text[:WIDTH]


def count(number: float) -> str:
    """Return a number in at most five characters: 950, 12.3k, 124M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.1f}{unit}" if abs(scaled) < 99.95 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}"


def perplexity(value: float) -> str:
    """Return a perplexity to one decimal, where it is so high that nobody reads its digits by its magnitude."""
    return f"{value:,.1f}" if value < 1e6 else f"{value:.0e}"


def duration(secs: float) -> str:
    """Return seconds as 47s, 1m23s, 2h05m or 3d04h; `-` where the time is unknown."""
    if not 0 <= secs < 1e9:  # nan as well
        return "-"
    whole = round(secs)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def summary_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values in two aligned columns; a value too long for a line goes on in the next."""
    left = max((len(name) for name, _ in rows), default=0)
    room = max(WIDTH - left - 2, 20)
    lines = []
    for name, value in rows:
        parts = [value[start : start + room] for start in range(0, len(value), room)] or [""]
        lines += [
            f"{label:<{left}}  {part}".rstrip() for label, part in zip([name] + [""] * len(parts), parts, strict=False)
        ]
    return "\n".join(lines)
