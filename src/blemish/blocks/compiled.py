"""Compilation of Python loops by numba; no other file imports it."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}
"""LLVM's flags that let it reorder sums, and so vectorise them; NaN and infinity keep their meaning."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call, without the GIL, and cache the machine code on disk.

    The cache is renewed when the function's own file changes. So the functions that it calls and the constants that
    it reads belong in the same file.
    """
    return _compiled(function, "never")


def inlined(function: Function) -> Function:
    """`compiled`, but copied into the callers: calls with arrays cost, as each array's references are counted."""
    return _compiled(function, "always")


def _compiled(function: Function, inline: Literal["never", "always"]) -> Function:
    decorate: Any = njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST_MATH, inline=inline)
    return cast(Function, decorate(function))
