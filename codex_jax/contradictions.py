"""What must hold between settings that are each right alone."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from codex_jax import schema


class _Rule(NamedTuple):
    """What must hold between values that are each right alone."""

    names: tuple[str, ...]
    holds: Callable[..., bool]
    """of the values of those names"""
    says: str
    """when it does not hold, with the values in their order"""


# A size of 0 is not known yet: they are tried once more when it is. `sharding` checks what depends on the devices.
_RULES = (
    _Rule(
        ("model.scan_unroll", "model.num_layers"),
        lambda unroll, layers: layers % unroll == 0,
        "model.scan_unroll={} does not divide model.num_layers={}",
    ),
    _Rule(
        ("data.sequence_length", "model.context_length"),
        lambda length, context: not context or length <= context,
        "data.sequence_length={} is longer than model.context_length={}",
    ),
    _Rule(
        ("train.microbatch_size", "train.global_batch_size"),
        lambda microbatch, batch: batch % (microbatch or batch) == 0,
        "train.microbatch_size={} does not divide train.global_batch_size={}",
    ),
    _Rule(
        ("train.freeze_layers", "model.num_layers"),
        lambda frozen, layers: not layers or frozen <= layers,
        "train.freeze_layers={} is more than model.num_layers={}",
    ),
    _Rule(
        ("adapter.rank", "adapter.targets", "adapter.weights"),
        lambda rank, targets, weights: rank or not targets,
        "adapter.rank={0} makes no adapter for adapter.targets={1}: set adapter.rank, or leave out the targets",
    ),
    _Rule(
        ("adapter.rank", "adapter.dropout", "adapter.weights"),
        lambda rank, dropout, weights: rank or weights or not dropout,
        "adapter.rank={0} makes no adapter for adapter.dropout={1}: set adapter.rank",
    ),
    _Rule(
        # What the weights are is not known yet where only a name is given.
        ("adapter.rank", "model.weights", "model.name", "model.architecture"),
        lambda rank, weights, name, architecture: not rank or weights or (name and not architecture),
        "adapter.rank={0} would adapt random weights: name those of a trained model in model.weights",
    ),
    _Rule(
        ("train.trainable", "model.weights", "model.name", "model.architecture"),
        lambda trainable, weights, name, architecture: not trainable or weights or (name and not architecture),
        "train.trainable={0} would leave the rest at random: name the weights of a trained model in model.weights",
    ),
    _Rule(
        ("optimizer.final_learning_rate", "optimizer.learning_rate"),
        lambda final, peak: final <= peak,
        "optimizer.final_learning_rate={} is above optimizer.learning_rate={}",
    ),
    _Rule(
        ("generate.num_tokens", "model.context_length"),
        lambda tokens, context: not context or tokens < context,
        "generate.num_tokens={} leaves no room for a prompt in model.context_length={}",
    ),
    _Rule(
        ("safety.enabled", "safety.bypass_reason"),
        lambda enabled, reason: enabled or reason.strip(),
        "safety.enabled={} needs a reason, which is recorded: safety.bypass_reason=WHY",
    ),
    _Rule(
        ("safety.bypass", "safety.bypass_reason"),
        lambda bypass, reason: not bypass or reason.strip(),
        "safety.bypass={} needs a reason, which is recorded: safety.bypass_reason=WHY, or the variable "
        "CODEX_SAFETY_BYPASS_REASON",
    ),
    _Rule(
        ("data.store", "data.mode"),
        lambda store, mode: not store or mode == "store",
        "data.store={} is not read in data.mode={}: set data.mode=store, or leave it out",
    ),
)
# For data itself, and for each source of data.mix in its place.
_SOURCE_RULES = (
    _Rule(
        ("source", "paths"),
        lambda source, paths: bool(paths) or source.lower() in ("", "stdlib"),
        "{0}.source={1} reads files: name them in {0}.paths",
    ),
    _Rule(
        ("source", "paths"),
        lambda source, paths: not paths or source.lower() != "stdlib",
        "{0}.source={1} reads no {0}.paths: leave one of them out",
    ),
)


def between(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong, from the values that are each right alone by their dotted names."""
    for names, holds, says in _RULES:
        found = [values[name] for name in names if name in values]
        if len(found) == len(names) and not holds(*found):
            yield says.format(*found)
    mixed = [f"data.mix.{name}" for name in schema.chosen(values, "data.mix.")]
    for section_name in ["data", *mixed]:
        for names, holds, says in _SOURCE_RULES:
            found = [values[full] for name in names if (full := f"{section_name}.{name}") in values]
            if len(found) == len(names) and not holds(*found):
                yield says.format(section_name, *found)
        paths = values.get(f"{section_name}.validation_paths")
        if paths and (fraction := values.get("data.test_fraction")):
            yield (
                f"data.test_fraction={fraction:g} is a share of {section_name}.paths, all of which are trained on with "
                f"{section_name}.validation_paths: leave one of them out"
            )
        if (section_name == "data") != bool(mixed) and values.get("data.validation_fraction") == 0 and paths == ():
            yield (
                "data.validation_fraction=0 leaves nothing to validate on: raise it or name "
                f"{section_name}.validation_paths"
            )
    yield from _mixture(values, mixed)
    yield from _patterns(values)
    yield from _processes(values)


def _mixture(values: Mapping[str, Any], mixed: Sequence[str]) -> Iterator[str]:
    beside = [name for name in ("source", "paths", "validation_paths") if values.get(f"data.{name}")]
    if mixed and beside:
        yield f"data.mix names the sources: leave out data.{beside[0]}, or make it a source of the mixture"
    for name in mixed:  # a misspelt name would be the standard library without a word
        if values.get(f"{name}.source") == "" and values.get(f"{name}.paths") == ():
            yield f"{name} names neither files nor a source: set {name}.paths, or {name}.source=stdlib"
    weights = {name: values.get(f"{name}.weight", 0.0) for name in mixed}
    if any(weights.values()) and not all(weights.values()):
        without = ", ".join(name for name, weight in weights.items() if not weight)
        yield f"some sources of data.mix have a weight and {without} has none: give all of them one, or none"


def _patterns(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("adapter.targets", "train.trainable"):
        for pattern in values.get(name, ()):
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"{name}={pattern} is no regular expression: {error}"


def _processes(values: Mapping[str, Any]) -> Iterator[str]:
    coordinator, count, index = (
        values.get(f"parallel.{name}") for name in ("coordinator", "num_processes", "process_index")
    )
    if coordinator is None or count is None or index is None:
        return
    if coordinator == "auto" and (count, index) != (1, 0):
        yield "parallel.coordinator=auto asks the cluster: leave out parallel.num_processes and parallel.process_index"
    elif not coordinator and (count, index) != (1, 0):
        yield (
            f"parallel.num_processes={count} and parallel.process_index={index} need parallel.coordinator=HOST:PORT, "
            "where process 0 is"
        )
    elif coordinator not in ("", "auto"):
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            yield f"parallel.coordinator={coordinator} is not HOST:PORT, for example 10.0.0.1:8476"
        if count == 1:
            yield f"parallel.coordinator={coordinator} is for several processes: set parallel.num_processes"
        elif index >= count:
            yield f"parallel.process_index={index} is not below parallel.num_processes={count}: they count from 0"
