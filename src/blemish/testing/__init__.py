"""The contract of a method as executable checks, for the methods of blemish and of third parties.

In your test file:

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
    """Run every check on new methods from `make_method`.

    Raises:
        AssertionError: If the method fails a check; the text says what is wrong.
    """
    for check in CHECKS:
        check(make_method)


def parametrize_with_checks(methods: Mapping[str, Callable[[], Method]]) -> "pytest.MarkDecorator":
    """A pytest decorator that calls a test with (check, make_method) for every pair of a check and a method."""
    import pytest  # not a requirement of blemish

    pairs = [
        pytest.param(check, make, id=f"{name}-{check.__name__.removeprefix('check_')}")
        for name, make in methods.items()
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("check", "make_method"), pairs)
