"""Declared arguments: accepted and refused values, error texts, and the declarations of all methods."""

import inspect
import math
import re
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blemish.errors import MethodError
from blemish.methods import CATALOGUE
from blemish.methods.arguments import Argument, argument
from blemish.methods.base import Method
from blemish.plugins import find_method

KINDS: dict[str, tuple[Any, Any, str]] = {
    "count": (int, argument(3, "", ge=1), "a whole number from 1"),
    "odd": (int, argument(3, "", ge=1, odd=True), "an odd whole number from 1"),
    "side": (int, argument(64, "", ge=16, power_of_two=True), "a power of two from 16"),
    "eights": (int, argument(64, "", ge=32, multiple_of=8), "a multiple of 8 from 32"),
    "share": (float, argument(0.5, "", gt=0, le=1), "a number in (0, 1]"),
    "momentum": (float, argument(0.5, "", ge=0, lt=1), "a number in [0, 1)"),
    "rate": (float, argument(0.5, "", gt=0), "a number above 0"),
    "bounded": (float, argument(0.5, "", le=2), "a number up to 2"),
    "below": (float, argument(0.5, "", lt=2), "a number below 2"),
    "free": (float, argument(0.5, ""), "a number"),
    "flag": (bool, argument(True, ""), "true or false"),
    "name": (str, argument("a", ""), "text"),
    "choice": (Literal["a", "b"], argument("a", ""), "one of 'a', 'b'"),
    "maybe": (int | None, argument(None, "", ge=1), "a whole number from 1 or None"),
    "several": (tuple[int, ...], argument((2, 3), "", ge=1), "a list of whole numbers from 1"),
    "kernels": (tuple[int, ...], argument((3,), "", ge=1, odd=True), "a list of odd whole numbers from 1"),
}


def declared(name: str) -> type[Method]:
    kind, value, _ = KINDS[name]
    return type("Sample", (Method,), {"__annotations__": {name: kind}, name: value})


@pytest.mark.parametrize("name", KINDS)
def test_accepted_values_are_described_in_words(name: str) -> None:
    assert declared(name).declared.arguments[name].expected == KINDS[name][2]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("count", [1, 10**6]),
        ("odd", [1, 7]),
        ("side", [16, 1024]),
        ("eights", [32, 40]),
        ("share", [1e-9, 1, 1.0]),
        ("momentum", [0, 0.999]),
        ("rate", [1e-300]),
        ("flag", [True, False]),
        ("choice", ["b"]),
        ("maybe", [None, 1]),
        ("several", [(1,), [1, 2]]),
    ],
)
def test_values_in_the_range_are_stored(name: str, good: list[Any]) -> None:
    for value in good:
        stored = declared(name)(**{name: value}).arguments[name]
        assert stored == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("count", [0, -1, 1.5, 2.0, "3", True, None, math.nan]),
        ("odd", [2, 0, 1.0]),
        ("side", [8, 48, 0, -16]),
        ("eights", [24, 33]),
        ("share", [0, 1.0001, "0.5", None, math.nan, math.inf, True]),
        ("momentum", [1, -0.1]),
        ("rate", [0, -1, math.inf]),
        ("flag", [1, 0, "maybe", "true", None]),
        ("name", [1, None, b"a"]),
        ("choice", ["c", None, 1]),
        ("maybe", [0, 1.5, "1"]),
        ("several", [(), [], (0,), (1, "a"), 3, "23", (1.0,), None]),
        ("kernels", [(3, 2)]),
    ],
)
def test_other_values_are_refused_with_the_same_pattern(name: str, bad: list[Any]) -> None:
    default = KINDS[name][1].default
    for value in bad:
        text = f"Sample: {name} must be {KINDS[name][2]}, got {value!r}. The default is {default!r}."
        with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
            declared(name)(**{name: value})


def test_the_error_about_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        MethodError, match=r"^Sample has no argument 'counts'\. Did you mean 'count'\? It has: count\.$"
    ):
        declared("count")(counts=1)
    with pytest.raises(MethodError, match=r"^Sample has no argument 'x'\. It has: count\.$"):
        declared("count")(x=1)


class Base(Method):
    """A base."""

    ratio: float = argument(0.1, "Share that is kept.", gt=0, le=1)
    epochs: int = argument(3, "Passes.", ge=1)


class Derived(Base):
    """A subclass with another default and an argument of its own."""

    epochs = 7
    width: int = argument(2, "Channels.", ge=1)

    def build(self) -> None:
        self.doubled = 2 * self.width


def test_a_subclass_inherits_arguments_and_changes_defaults() -> None:
    assert Derived().arguments == {"ratio": 0.1, "epochs": 7, "width": 2}
    assert Base().arguments == {"ratio": 0.1, "epochs": 3}
    assert Derived.epochs == 7
    with pytest.raises(MethodError, match=r"Derived: epochs must be a whole number from 1, got 0\."):
        Derived(epochs=0)


def test_a_method_cannot_define_its_own_constructor() -> None:
    with pytest.raises(TypeError, match=r"^Own defines __init__, .* Declare them in the class body"):
        type("Own", (Method,), {"__init__": lambda self: None})


def test_a_method_is_printed_as_its_arguments() -> None:
    assert repr(Derived(width=5)) == "Derived(ratio=0.1, epochs=7, width=5)"


def test_build_sees_the_arguments() -> None:
    assert Derived(width=5).doubled == 10


def test_signature_and_docstring_are_derived() -> None:
    assert str(inspect.signature(Derived)) == "(*, ratio: float = 0.1, epochs: int = 7, width: int = 2)"
    text = inspect.getdoc(Derived)
    assert text is not None
    assert "    epochs: Passes. Must be a whole number from 1; the default is 7." in text.splitlines()


def test_the_json_schema_describes_a_form() -> None:
    schema = Derived.declared.model.model_json_schema()
    assert schema["properties"]["ratio"] == {
        "default": 0.1,
        "description": "Share that is kept.",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "title": "Ratio",
        "type": "number",
    }
    assert schema["additionalProperties"] is False


DECLARED = [
    pytest.param(find_method(name), one, id=f"{name}-{one.name}")
    for name in CATALOGUE
    for one in find_method(name).declared.arguments.values()
]
VALUES = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.integers(-2, 4), st.integers(), st.floats(),
    st.binary(max_size=2), st.dictionaries(st.text(), st.integers()),
    st.lists(st.one_of(st.integers(-2, 4), st.floats(), st.text(max_size=2)), max_size=3),
)  # fmt: skip


@pytest.mark.parametrize(("method", "one"), DECLARED)
def test_every_argument_of_every_method_has_a_valid_declaration(method: type[Method], one: Argument) -> None:
    assert one.meaning.endswith((".", ")."))
    assert method.declared.check({one.name: one.default})[one.name] == one.default
    for wrong in (object(), b"bytes", {}):
        text = f"{method.__name__}: {one.name} must be {one.expected}, got "
        with pytest.raises(MethodError, match=f"^{re.escape(text)}"):
            method.declared.check({one.name: wrong})


@given(value=VALUES)
def test_any_value_is_stored_or_refused_with_an_error_of_the_pattern(value: Any) -> None:
    for name in CATALOGUE:
        method = find_method(name)
        for one in method.declared.arguments.values():
            try:
                stored = method.declared.check({one.name: value})[one.name]
            except MethodError as error:
                assert str(error).startswith(f"{method.__name__}: {one.name} must be {one.expected}, got ")  # noqa: PT017
            else:
                assert stored == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", CATALOGUE)
def test_presets_hold_valid_arguments_of_the_method(name: str) -> None:
    method = find_method(name)
    for preset in method.presets.values():
        method.declared.check(preset.arguments)


def method(body: dict[str, Any], bases: tuple[type, ...] = (Method,), /, **annotations: Any) -> type[Method]:
    """A class with this body and these annotations."""
    return type("Own", bases, {**body, "__annotations__": annotations})


@pytest.mark.parametrize(
    "name", ["collect", "build", "state_dict", "presets", "training", "learned", "auxiliary", "progress", "copy",
             "has_learned", "arguments", "declared", "model_config", "self", "_x"],
)  # fmt: skip
def test_names_with_another_use_are_refused(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"^Own: no argument can be called '{name}'\. Choose another name\.$"
    ):
        method({name: argument(1, "Meaning.")}, **{name: int})


@pytest.mark.parametrize(
    "kind", [None, dict, list[int], int | str, tuple[str, ...], tuple[int, int], tuple[()], Any, Tensor]
)
def test_types_that_cannot_be_checked_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"^Own: the argument x is annotated with .*, but must be int, float"):
        method({"x": argument(1, "Meaning.")}, x=kind)


@pytest.mark.parametrize(
    ("kind", "value", "limits"),
    [
        (float, 1.5, {"odd": True}),
        (int, 3, {"odd": True, "multiple_of": 3}),
        (str, "a", {"ge": 1}),
        (tuple[float, ...], (1.0,), {"power_of_two": True}),
    ],
)
def test_limits_that_do_not_fit_are_refused(kind: Any, value: Any, limits: dict[str, Any]) -> None:
    with pytest.raises(
        TypeError, match=r"^Own: the argument x has limits that do not fit its type or each other"
    ):
        method({"x": argument(value, "Meaning.", **limits)}, x=kind)


@pytest.mark.parametrize(
    "body",
    [{"ratio": 2.0}, {"ratio": math.nan}, {"ratio": lambda self: 1}, {"ratio": property(lambda self: 1)}],
)
def test_a_default_outside_its_range_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(
        TypeError, match=r"^A default does not fit its argument\. Own: ratio must be a number in"
    ):
        method(body, (Base,))


class Mixin:
    """Declarations without a method."""

    gain: float = argument(1.0, "Factor.")


class Second(Method):
    """Another base."""

    bias: float = argument(0.0, "Offset.")
    ratio: float = argument(0.3, "Share.")


class Joined(Mixin, Derived, Second):
    """Three bases."""


def test_arguments_of_all_bases_are_known() -> None:
    assert Joined().arguments == {"bias": 0.0, "ratio": 0.1, "epochs": 7, "width": 2, "gain": 1.0}
    assert Joined(bias=4.0).arguments["bias"] == 4.0
    assert Joined.gain == 1.0


def test_annotations_of_other_attributes_are_not_read() -> None:
    own = method({"x": argument(1, "Meaning.")}, x="int", other="NotImported")
    assert own(x=3).arguments == {"x": 3}


def test_an_argument_that_was_changed_to_a_wrong_value_is_refused() -> None:
    changed = Derived()
    changed.width = -3
    with pytest.raises(MethodError, match=r"^Derived: width must be a whole number from 1, got -3\."):
        _ = changed.arguments


def test_a_value_without_a_text_is_refused_too() -> None:
    odd = type("Odd", (), {"__repr__": lambda self: 1 / 0})()
    with pytest.raises(
        MethodError, match=r"^Derived: width must be a whole number from 1, got <Odd instance at"
    ):
        Derived(width=odd)
