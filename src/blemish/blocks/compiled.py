"""Compilation of Python loops by numba; no other file imports it."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}
"""LLVM's flags that let it reorder sums, and so vectorise them; NaN and infinity keep their meaning."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call, without the GIL, and cache the machine code on disk if that is possible.

    The cache is renewed when the function's own file changes. So the functions that it calls and the constants that
    it reads belong in the same file.
    """
    return _compiled(function, "never")


def inlined(function: Function) -> Function:
    """`compiled`, but copied into the callers: calls with arrays cost, as each array's references are counted."""
    return _compiled(function, "always")


def is_cached(function: Callable[..., Any] = compiled) -> bool:
    """Whether numba finds a folder for the machine code of a function: beside its file, or in the user's cache."""
    try:
        njit(cache=True)(function)
    except RuntimeError:  # a read-only installation, and no home folder that can be written
        return False
    return True


def _compiled(function: Function, inline: Literal["never", "always"]) -> Function:
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": FAST_MATH, "inline": inline}
    decorate: Any = njit(cache=is_cached(function), **options)
    return cast(Function, decorate(function))
