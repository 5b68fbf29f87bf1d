"""The contract of a method as executable checks, for blemish's own methods and for anybody's.

In a test file of yours:

    from blemish.testing import parametrize_with_checks

    @parametrize_with_checks({"mine": MyMethod})
    def test_contract(check, make_method):
        check(make_method)
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from blemish.methods.base import Method
from blemish.testing.checks import CHECKS

if TYPE_CHECKING:
    import pytest

__all__ = ["CHECKS", "check_method", "parametrize_with_checks"]


def check_method(make_method: Callable[[], Method]) -> None:
    """Run every check on fresh methods from `make_method`; AssertionError says which sentence does not hold."""
    for check in CHECKS:
        check(make_method)


def parametrize_with_checks(methods: Mapping[str, Callable[[], Method]]) -> "pytest.MarkDecorator":
    """A pytest decorator that calls a test with (check, make_method) for every pair of the two."""
    import pytest  # only those who test have it

    pairs = [
        pytest.param(check, make, id=f"{name}-{check.__name__.removeprefix('check_')}")
        for name, make in methods.items()
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("check", "make_method"), pairs)
