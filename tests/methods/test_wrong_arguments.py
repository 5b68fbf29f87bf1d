"""Wrong values of every argument of every method are refused before any work begins."""

import math
from typing import Any

import pytest

from blemish.errors import MethodError
from blemish.methods import CATALOGUE
from blemish.methods.base import Method
from blemish.plugins import find_method

WRONG: list[Any] = [
    *(None, True, 1.5, -1, -1.5, 0, 10**9, 1e9, 10**30, 1e300, math.nan, math.inf, -math.inf),
    *("", "maybe", "1", (), [], [1.5], ["a"], [10**9] * 3, [[1]], {}),
]


def refused_or_stored(cls: type[Method], name: str, value: Any) -> Any:
    """The value as the constructor stores it; None if it refuses it with the one error."""
    try:
        return cls.declared.check({name: value})[name]
    except MethodError as error:
        if not str(error).startswith(
            f"{cls.__name__}: {name} must be {cls.declared.arguments[name].expected}, got "
        ):
            raise
        return None


@pytest.mark.parametrize("method", CATALOGUE)
def test_wrong_values_of_any_argument_are_accepted_or_refused_by_the_constructor(method: str) -> None:
    """A value that is accepted must be one of the declared type: nothing is left to fail after work has begun."""
    cls = find_method(method)
    for name in cls.declared.arguments:
        if name in ("backbone", "layers"):  # accepted as text and numbers; the backbone looks for them
            continue
        for value in WRONG:
            stored = refused_or_stored(cls, name, value)
            assert not isinstance(stored, float) or math.isfinite(stored)
            assert not isinstance(stored, int) or stored <= 10**7


@pytest.mark.parametrize("method", CATALOGUE)
def test_whole_numbers_have_a_largest_value(method: str) -> None:
    """Otherwise a typing error could cost hours or all memory."""
    for name, declared_argument in find_method(method).declared.arguments.items():
        if "whole number" in declared_argument.expected or "power of two" in declared_argument.expected:
            assert {"le", "lt"} & declared_argument.limits.keys(), name
