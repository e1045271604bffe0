"""Which sinks there are, and which of them a run has: the built-in ones by their knobs, those of packages by name."""

import importlib.util

from codex_jax import config
from codex_jax.errors import ConfigError
from codex_jax.registry import Registry
from codex_jax.tracking.sink import Sink
from codex_jax.tracking.sinks import csv_file, mlflow, tensorboard, wandb


# A package's entry point of this group is a class of its own, derived from Sink.
SINKS: Registry[type[Sink]] = Registry("codex_jax.sinks")
BUILT_IN: dict[str, type[Sink]] = {
    "csv": csv_file.CsvSink,
    "tensorboard": tensorboard.TensorBoardSink,
    "mlflow": mlflow.MlflowSink,
    "wandb": wandb.WandbSink,
}
for _name, _kind in BUILT_IN.items():
    SINKS.register(_name, _kind, source=_kind.__module__)


def chosen(tracking: config.Tracking) -> dict[str, type[Sink]]:
    """Return the sinks that are switched on, by name.

    Raises ConfigError when one does not exist, misses its package, or would send the run to another machine without
    `tracking.allow_remote`.
    """
    names = [name for name in BUILT_IN if getattr(tracking, name).enabled]
    if built_in := [name for name in tracking.plugins if name.lower() in BUILT_IN]:
        raise ConfigError(f"tracking.plugins: {built_in[0]} is built in; set tracking.{built_in[0].lower()}.enabled")
    return {name.lower(): checked(name.lower(), tracking) for name in [*names, *tracking.plugins]}


def checked(name: str, tracking: config.Tracking) -> type[Sink]:
    """Return one sink; raises ConfigError as `chosen` does."""
    kind = SINKS.get(name)
    switch = f"tracking.{name}.enabled=false" if name in BUILT_IN else f"tracking.plugins without {name}"
    if not (isinstance(kind, type) and issubclass(kind, Sink)):
        raise ConfigError(f"tracking.plugins: {name} is {kind!r:.80}, not a class derived from Sink")
    if kind.package and importlib.util.find_spec(kind.package) is None:
        raise ConfigError(f"the sink {name} needs the package {kind.package}: install it or set {switch}")
    address = kind.address(tracking)
    if address and not tracking.allow_remote:
        raise ConfigError(
            f"the sink {name} would send the run to {address}, which is not this machine: set "
            f"tracking.allow_remote=true to let it, or {switch}"
        )
    return kind
