"""How a value is read from a command line, and what is said when it is wrong."""

import dataclasses
from typing import Any

import pytest

from codex_jax import schema
from codex_jax.schema import knob, section


pytestmark = pytest.mark.infra


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = knob(0.5, "a share", low=0.0, high=1.0)
    kind: str = knob("a", "a choice", choices=("a", "b"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = knob(3, "a number", low=1)
    names: tuple[str, ...] = knob((), "some words")
    on: bool = knob(True, "a switch")
    inner: Inner = section(Inner)


FIELDS = {name: (field, kind) for name, field, kind in schema.walk(Outer)}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", bool, True),
        ("ON", bool, True),
        ("1", bool, True),
        ("false", bool, False),
        ("off", bool, False),
        ("No", bool, False),
        ("0", bool, False),
        ("1_000_000", int, 1_000_000),
        (" -3 ", int, -3),
        ("3e-4", float, 3e-4),
        ("7", float, 7.0),
        ("false", str, "false"),
        ("", str, ""),
        ("def ", str, "def "),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("a, b ,", tuple[str, ...], ("a", "b")),
        ("", tuple[str, ...], ()),
        ("('a','b c')", tuple[str, ...], ("a", "b c")),
        ("['a']", tuple[str, ...], ("a",)),
        ("('one')", tuple[str, ...], ("one",)),
    ],
)
def test_value_is_read_as_the_type_of_its_key(text: str, kind: Any, value: object) -> None:
    read = schema.parse(text, kind)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("maybe", bool, "'maybe' is not a bool: write true or false"),
        ("2", bool, "'2' is not a bool"),
        ("1.5", int, "'1.5' is not an int"),
        ("1e3", int, "'1e3' is not an int"),
        ("much", float, "'much' is not a float"),
        ("('a',", tuple[str, ...], r"is not a list: write a,b"),
        ("(open('x'))", tuple[str, ...], r"is not a list: write a,b"),
    ],
)
def test_value_that_cannot_be_read_says_what_was_expected(text: str, kind: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        schema.parse(text, kind)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count=0 is too small: the least is 1"),
        ("count", True, "count=True is of type bool, expected int"),
        ("count", 2.0, "count=2.0 is of type float, expected int"),
        ("inner.rate", 1.5, "inner.rate=1.5 is too large: the most is 1.0"),
        ("inner.rate", float("nan"), "inner.rate=nan is not finite"),
        ("inner.rate", float("inf"), "inner.rate=inf is not finite"),
        ("inner.kind", "c", "inner.kind='c' is not one of a, b"),
        ("on", "false", "on='false' is of type str, expected bool"),
        ("names", "a", "names='a' is not a list of strings"),
        ("names", ("a", 1), "names=('a', 1) is not a list of strings"),
    ],
)
def test_value_out_of_its_range_or_type_is_refused(name: str, value: object, message: str) -> None:
    assert schema.check(name, value, *FIELDS[name])[1] == [message]


def test_value_at_its_bounds_is_taken_in_its_exact_type() -> None:
    assert schema.check("count", 1, *FIELDS["count"]) == (1, [])
    rate, problems = schema.check("inner.rate", 1, *FIELDS["inner.rate"])
    assert (rate, type(rate), problems) == (1.0, float, [])
    assert schema.check("names", ["a"], *FIELDS["names"]) == (("a",), [])


def test_walk_and_flatten_use_the_same_names_as_build() -> None:
    flat = dict(schema.flatten(dataclasses.asdict(Outer())))
    assert list(flat) == list(FIELDS) == ["count", "names", "on", "inner.rate", "inner.kind"]
    assert schema.build(Outer, {**flat, "inner.rate": 0.25}) == Outer(inner=Inner(rate=0.25))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cuont", "count"),
        ("iner.rate", "inner.rate"),
        ("rate", "inner.rate"),
        ("outer.kind", "inner.kind"),
        ("zzz", ""),
    ],
)
def test_nearest_name_is_suggested_when_one_is_near(name: str, found: str) -> None:
    assert schema.nearest(name, list(FIELDS)) == (f" (did you mean {found}?)" if found else "")


def test_value_in_a_message_is_as_a_user_writes_it_and_digests_are_short() -> None:
    assert [schema.shown(value) for value in (True, False, None, 1, "a")] == ["true", "false", "nothing", "1", "'a'"]
    assert schema.shown(f"sha256 {'0123456789abcdef' * 4}") == "'sha256 0123456789ab'"
    assert schema.shown(["ab" * 32, "ab" * 33]) == f"['abababababab', '{'ab' * 33}']"
