"""The classes that a model tells texts apart by: their names in its config.json, and in the settings of a run."""

from collections.abc import Sequence
from typing import Any

from codex_jax.errors import ConfigError
from codex_jax.models.published import Published


def names(config: Published) -> tuple[str, ...]:
    """Return the names in `id2label`, in their order; those that transformers makes up where there is no such field.

    AssetError when they are not numbered from 0 on.
    """
    found = config.values.get("id2label")
    if found is None:
        return tuple(_made_up(number) for number in range(config.count("num_labels", 2)))
    wanted = "an object with a name for each number from 0 on"
    if not isinstance(found, dict) or not found:
        raise config.wrong("id2label", wanted)
    by_number = {str(number): name for number, name in found.items()}
    ordered = [by_number.get(str(number)) for number in range(len(found))]
    if not all(isinstance(name, str) for name in ordered):
        raise config.wrong("id2label", wanted)
    return tuple(map(str, ordered))


def exclusive(config: Published) -> tuple[str, ...]:
    """Return the names of classes of which each text is exactly one; AssetError for a model of something else."""
    config.refuse("problem_type", "single_label_classification")
    found = names(config)
    if len(found) < 2:
        raise config.wrong("id2label", "of two classes at least: with one the model gives a number, and no class")
    return found


def published(labels: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a config.json that name the classes; none without names."""
    if not labels:
        return {}
    return {
        "num_labels": len(labels),
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
    }


def agreed(given: tuple[str, ...], known: tuple[str, ...], place: str) -> tuple[str, ...]:
    """Return the names of the classes: those that are given in data.labels, or those that the weights know.

    `known` is empty where the weights have no head for classes. ConfigError when there are none, and when both differ:
    the head would be of other classes than is said of it.
    """
    if not given and not known:
        raise ConfigError("data.objective=classes, but nothing names the classes: set data.labels=NAME,NAME")
    if not given or not known or given == known:
        return given or known
    if len(given) == len(known) and known == tuple(map(_made_up, range(len(known)))):
        return given
    raise ConfigError(
        f"data.labels names {len(given)} classes ({_listed(given)}), and {place} {len(known)} ({_listed(known)}): "
        "leave data.labels out, or begin with weights without a head for classes"
    )


def _made_up(number: int) -> str:
    return f"LABEL_{number}"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:8], *(["..."] if len(labels) > 8 else [])])
