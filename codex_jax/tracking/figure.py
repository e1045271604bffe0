"""Draw the curves of training and validation loss as a PNG file, for the copies that show pictures."""

import os
from pathlib import Path

from codex_jax import atomic, cache
from codex_jax.tracking.report_facts import Facts


SIZE = (6.4, 4.0)  # inches of 100 pixels


def draw_losses(workdir: Path, facts: Facts, step: int) -> Path | None:
    """Write WORKDIR/figures/loss-STEP.png and return its path; None when there is no loss to draw.

    The same curves give the same bytes with the same version of matplotlib.
    """
    curves = {name: facts.curves[f"{name}/loss"].points() for name in ("train", "validation")}
    if not any(curves.values()):
        return None
    os.environ.setdefault("MPLCONFIGDIR", str(cache.directory("matplotlib")))  # where it keeps a list of fonts
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot(xlabel="step", ylabel="loss")
    for name, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 3 else None)
    axes.legend(frameon=False)
    path = workdir / "figures" / f"loss-{step:08d}.png"
    path.parent.mkdir(exist_ok=True)
    with atomic.replacing(path) as file:
        canvas.print_png(file)
    return path
