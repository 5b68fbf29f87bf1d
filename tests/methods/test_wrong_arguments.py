"""Wrong values of every argument of every method are refused before any work begins."""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from blemish.errors import DivergedError, MethodError
from blemish.methods import CATALOGUE
from blemish.methods.base import Method
from blemish.plugins import find_method
from blemish.testing.checks import predict
from blemish.testing.parts import normal_parts
from blemish.training import learn
from test_contract import METHODS

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
def test_numbers_have_a_largest_value(method: str) -> None:
    """Otherwise a typing error could cost hours, all memory or a number that is infinite in float32."""
    for name, declared_argument in find_method(method).declared.arguments.items():
        if re.search("number|power of two|multiple of", declared_argument.expected):
            assert {"le", "lt"} & declared_argument.limits.keys(), name


def extremes(method: Method) -> Iterator[dict[str, float]]:
    """The smallest and the largest value of each argument that is a floating-point number."""
    for name, declared_argument in method.declared.arguments.items():
        limits = declared_argument.limits
        if declared_argument.kind is float:
            smallest = limits.get("ge", 1e-300)
            largest = limits.get("le", math.nextafter(limits.get("lt", 0), 0))
            yield from ({name: smallest}, {name: largest})


@pytest.mark.parametrize("name", [name for name in METHODS if name != "average"])
def test_smallest_and_largest_numbers_are_learned_with_or_refused_in_words(name: str) -> None:
    usual = METHODS[name]()
    for extreme in extremes(usual):
        try:
            method = type(usual)(**usual.arguments | extreme)
            learn(method, normal_parts(4), held_out=normal_parts(2, seed=1), seed=0)
        except (MethodError, DivergedError):
            continue
        score, anomaly_map = predict(method, normal_parts(2, seed=3))
        assert np.isfinite(score).all(), extreme
        assert np.isfinite(anomaly_map).all(), extreme
