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


_REASON = "needs a reason, which is recorded: safety.bypass_reason=WHY, or the variable CODEX_SAFETY_BYPASS_REASON"
# What an evaluation (evaluate.py) does not say of tokens, and of classes.
_NOT_MEASURED = (("accuracy",), ("perplexity", "token_accuracy"))
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
        ("adapter.rank", "adapter.targets"),
        lambda rank, targets: rank or not targets,
        "adapter.rank={} makes no adapters, though adapter.targets names products: set adapter.rank",
    ),
    _Rule(
        ("adapter.rank", "adapter.dropout", "adapter.weights"),
        lambda rank, dropout, weights: rank or weights or not dropout,
        "adapter.rank={} makes no adapters, and adapter.dropout={} is of them: set adapter.rank",
    ),
    _Rule(
        ("adapter.rank", "adapter.alpha", "adapter.rslora"),
        lambda rank, alpha, rslora: rank or (alpha == 16.0 and not rslora),
        "adapter.rank={} makes no adapters of adapter.alpha={} and adapter.rslora={}: set adapter.rank",
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
        "train.trainable would leave the rest at random: name the weights of a trained model in model.weights",
    ),
    _Rule(
        ("quantization.targets", "quantization.mode"),
        lambda targets, mode: not targets or mode,
        "quantization.targets={0} is not read without quantization.mode: set it, or leave them out",
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
        # Of a save that failed in one process alone the others would hear by a timeout.
        ("checkpoint.on_failure", "parallel.coordinator"),
        lambda on_failure, coordinator: on_failure == "stop" or not coordinator,
        "checkpoint.on_failure={} is for a run of one process, but parallel.coordinator={}: leave one of them out",
    ),
    _Rule(
        ("safety.enabled", "safety.bypass_reason"),
        lambda enabled, reason: enabled or reason.strip(),
        f"safety.enabled=false {_REASON}",
    ),
    _Rule(
        ("safety.bypass", "safety.bypass_reason"),
        lambda bypass, reason: not bypass or reason.strip(),
        f"safety.bypass=true {_REASON}",
    ),
    _Rule(
        ("train.mask_fraction", "train.random_fraction"),
        lambda mask, random: mask + random <= 1.0 + 1e-9,
        "train.mask_fraction={} and train.random_fraction={} are shares of one whole: their sum is above 1",
    ),
    _Rule(
        ("data.labels", "data.objective"),
        lambda labels, objective: not labels or objective == "classes",
        "data.labels={} are not read with data.objective={}: set data.objective=classes, or leave them out",
    ),
    _Rule(
        ("data.labels",),
        lambda labels: not labels or 2 <= len(set(labels)) == len(labels) <= 65_536,
        "data.labels={} must be 2 to 65,536 different names",
    ),
    _Rule(
        ("data.objective", "data.packing", "data.isolate_documents"),
        lambda objective, packing, isolate: objective != "classes" or (packing == "concat" and isolate),
        "data.objective={} gives each document a row of its own: leave out data.packing={} and "
        "data.isolate_documents={}",
    ),
    _Rule(
        ("parallel.deterministic_reduction",),
        lambda parts: parts & (parts - 1) == 0,
        "parallel.deterministic_reduction={} is no power of two",
    ),
    _Rule(
        ("parallel.deterministic_reduction", "parallel.fsdp", "parallel.tensor"),
        lambda parts, fsdp, tensor: not parts or fsdp == tensor == 1,
        "parallel.deterministic_reduction={} needs all parameters on each device: leave out parallel.fsdp={} and "
        "parallel.tensor={}",
    ),
    _Rule(
        ("parallel.deterministic_reduction", "train.microbatch_size", "train.global_batch_size"),
        lambda parts, microbatch, batch: (microbatch or batch) % (parts or 1) == 0,
        "parallel.deterministic_reduction={} does not divide the rows of one pass: train.microbatch_size={}, or where "
        "that is 0 train.global_batch_size={}",
    ),
    _Rule(
        ("data.store", "data.mode"),
        lambda store, mode: not store or mode == "store",
        "data.store={} is not read in data.mode={}: set data.mode=store, or leave it out",
    ),
    _Rule(
        ("tracking.system_every_secs",),
        lambda secs: secs == 0 or secs >= 0.1,
        "tracking.system_every_secs={:g} would be more looking than work: 0, or at least 0.1",
    ),
    _Rule(
        ("tracking.profile_from_step", "tracking.profile_steps"),
        lambda first, steps: steps or first == 10,
        "tracking.profile_from_step={} is not read without tracking.profile_steps: set it",
    ),
    _Rule(
        ("tracking.profile_from_step", "tracking.profile_steps", "train.num_steps"),
        lambda first, steps, num: not steps or first + steps - 1 <= num,
        "tracking.profile_from_step={} and tracking.profile_steps={} go beyond train.num_steps={}",
    ),
    _Rule(
        ("checkpoint.keep_every", "checkpoint.every_steps"),
        lambda kept, saved: kept % saved == 0,
        "checkpoint.keep_every={} is no multiple of checkpoint.every_steps={}: not all it names would be saved",
    ),
    _Rule(
        ("checkpoint.best_metric", "data.objective"),
        lambda metric, objective: metric not in _NOT_MEASURED[objective == "classes"],
        "checkpoint.best_metric={} is no figure of data.objective={}: of classes there are loss and accuracy, else "
        "loss, perplexity and token_accuracy",
    ),
    _Rule(
        ("checkpoint.best_metric", "checkpoint.best_mode"),
        lambda metric, mode: mode == "max" or not metric.endswith("accuracy"),
        "checkpoint.best_metric={} with checkpoint.best_mode={} would keep the worst: set checkpoint.best_mode=max",
    ),
)
# For data itself, and for each source of data.mix in its place.
_SOURCE_RULES = (
    _Rule(
        ("source", "paths"),
        lambda source, paths: not paths or source.lower() != "stdlib",
        "{0}.source={1} reads no {0}.paths: leave one of them out",
    ),
)


def between(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong, from the values that are each right alone by their dotted names, and those of each key."""
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
    yield from _mixture(values, defaults, mixed)
    yield from _patterns(values)
    yield from _processes(values)


def _mixture(values: Mapping[str, Any], defaults: Mapping[str, Any], mixed: Sequence[str]) -> Iterator[str]:
    of_each = [name.rpartition(".")[2] for name in values if mixed and name.startswith(f"{mixed[0]}.")]
    beside = [name for name in of_each if (full := f"data.{name}") in values and values[full] != defaults[full]]
    if mixed and beside:
        yield f"data.mix names the sources: leave out data.{beside[0]}, or say it of a source: {mixed[0]}.{beside[0]}"
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
