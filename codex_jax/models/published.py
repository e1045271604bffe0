"""A config.json in Hugging Face's form, read field by field: what is missing or of no use is named and refused."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from codex_jax.errors import AssetError
from codex_jax.models.rope import SCALINGS, Rope


T = TypeVar("T")
# Above it no model was ever published; an absurd size would be asked of the machine's memory.
_LARGEST = 1 << 24
# Numbers become float32, whose largest is 3.4e38.
_LARGEST_NUMBER = 1e30


class Published:
    """The fields of one architecture, and where they come from, for messages."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values = values
        self.place = place

    def count(self, name: str, default: int | None = None, *, high: int = _LARGEST) -> int:
        """Return a size from 1 to `high`; a field that is missing or null has the default, if there is one."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise self.wrong(name, f"a whole number from 1 to {high:,}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number above zero."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LARGEST_NUMBER:
            raise self.wrong(name, f"a number above 0 and below {_LARGEST_NUMBER:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def word(self, name: str) -> str:
        """Return a word of up to 80 characters."""
        value = self._value(name, None)
        if not isinstance(value, str) or len(value) > 80 or not value.isprintable():
            raise self.wrong(name, "a word")
        return value

    def choice(self, name: str, choices: Mapping[str, T], default: str) -> T:
        """Return what a word stands for."""
        value = self._value(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return choices[value]

    def words(self, name: str, choices: Mapping[str, T], length: int) -> tuple[T, ...] | None:
        """Return what each word of a list stands for; None when there is no list."""
        value = self.values.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) != length
            or any(not isinstance(word, str) or word not in choices for word in value)
        ):
            raise self.wrong(name, f"a list of {length}, each one of {', '.join(choices)}")
        return tuple(choices[word] for word in value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object, {} where there is none."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def refuse(self, name: str, *harmless: Any) -> None:
        """Raise AssetError when a field asks for what is unknown here: when it has another value than these."""
        value = self.values.get(name)
        if value is not None and value not in harmless:
            raise AssetError(f"{self.place} has {name}={value!r:.80}, which is not supported")

    def rope(self, parameters: Mapping[str, Any] | None = None) -> Rope:
        """Return the rotary positions, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`."""
        if parameters is None:
            theta = {"rope_theta": self.values.get("rope_theta")}
            parameters = self.mapping("rope_parameters") or theta | self.mapping("rope_scaling")
        part = Published(parameters, f"{self.place}, rope_parameters")
        scaling = part.choice(
            "rope_type", dict(zip(SCALINGS, SCALINGS, strict=True)), part.values.get("type") or "default"
        )
        rope = Rope(part.number("rope_theta", 10_000.0), scaling)
        if scaling == "default":
            return rope
        rope = rope._replace(factor=part.number("factor"))
        if scaling == "linear":
            return rope
        length = part.count("original_max_position_embeddings", self.values.get("max_position_embeddings"))
        if scaling == "llama3":
            low, high = part.number("low_freq_factor"), part.number("high_freq_factor")
            return rope._replace(original_length=length, low_factor=low, high_factor=high)
        for name in ("mscale", "mscale_all_dim", "truncate"):
            part.refuse(name, *((True,) if name == "truncate" else ()))
        return rope._replace(
            original_length=length,
            beta_fast=part.number("beta_fast", 32.0),
            beta_slow=part.number("beta_slow", 1.0),
            attention_factor=part.number("attention_factor", 0.1 * math.log(rope.factor) + 1.0),
        )

    def wrong(self, name: str, wanted: str) -> AssetError:
        """Return the error of a field that is not what it must be."""
        given = f"{name}={self.values[name]!r:.80}" if name in self.values else f"no {name}"
        return AssetError(f"{self.place} has {given}; it must be {wanted}")

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        return default if value is None else value
