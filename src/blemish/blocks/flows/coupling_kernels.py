"""The compiled loops of `couple`: everything that happens to a pixel happens while it is in the cache."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.blocks.compiled import compiled

Floats = NDArray[np.float32]
Numbers = NDArray[np.float32] | NDArray[np.uint16]
"""float32, or bfloat16 as its bits."""
Indices = NDArray[np.uint64]
"""Unsigned, so that the compiled code does not test for negative indices, which count from the end."""

_LOG2E = np.float32(1 / math.log(2))
_LN2 = np.float32(math.log(2))
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(8))
_FARTHEST = np.float32(20.0)
"""tanh is 1 in float32 long before this value."""
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


@compiled
def forward(
    x: Floats,
    raw: Numbers,
    y: Floats,
    first: Numbers,
    log: Floats,
    scale: Floats,
    offset: Floats,
    order: Indices,
    clamp: Any,
) -> None:
    """One image of P pixels: x, y (P, C), raw (P, 2B), first (P, A); scale and offset are in y's channel order."""
    moved = raw.shape[1] // 2
    kept = x.shape[1] - moved
    row = np.empty(x.shape[1], np.float32)
    row_kept, row_moved = row[:kept], row[kept:]
    total = np.float64(0)
    for p in range(len(x)):
        x_moved, s_in, t = x[p, kept:], raw[p, :moved], raw[p, moved:]
        y_out, first_out = y[p], first[p]
        for i in range(kept):
            row_kept[i] = x[p, i]
        sums = np.float32(0)
        for j in range(moved):
            s = clamp * _tanh(_read(s_in, j))
            sums += s
            row_moved[j] = x_moved[j] * _exp(s) + _read(t, j)
        total += sums
        for k in range(len(row)):
            y_out[k] = row[order[k]] * scale[k] + offset[k]
        for k in range(kept):
            _write(first_out, k, y_out[k])
    log[0] = total


@compiled
def backward(
    x: Floats,
    raw: Numbers,
    y_gradient: Floats,
    first_gradient: Numbers,
    log_gradient: Floats,
    x_gradient: Floats,
    raw_gradient: Numbers,
    scale_gradient: Floats,
    offset_gradient: Floats,
    scale: Floats,
    place: Indices,
    clamp: Any,
) -> None:
    """One image; place (C,): the place in y of each channel of x. Adds to scale_gradient and offset_gradient."""
    moved = raw.shape[1] // 2
    kept = x.shape[1] - moved
    placed, row = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    row_kept, row_moved = row[:kept], row[kept:]
    scale_kept, scale_moved, gradients = scale[:kept], scale[kept:], scale_gradient[kept:]
    tanh, grown = np.empty(moved, np.float32), np.empty(moved, np.float32)
    stretched, t_exact = np.empty(moved, np.float32), np.empty(moved, np.float32)
    log = log_gradient[0]
    for p in range(len(x)):
        first_in = first_gradient[p]
        for k in range(len(row)):
            placed[k] = y_gradient[p, k]
        for k in range(kept):
            placed[k] += _read(first_in, k)
        for i in range(len(row)):
            row[i] = placed[place[i]]
        for i in range(len(row)):
            offset_gradient[i] += row[i]
        for i in range(kept):
            scale_gradient[i] += row_kept[i] * x[p, i]
            x_gradient[p, i] = row_kept[i] * scale_kept[i]
        x_moved, s, t = x[p, kept:], raw[p, :moved], raw[p, moved:]
        x_out, s_out, t_out = x_gradient[p, kept:], raw_gradient[p, :moved], raw_gradient[p, moved:]
        for j in range(moved):  # short loops: the compiler can test that a few arrays do not overlap
            tanh[j] = _tanh(_read(s, j))
        for j in range(moved):
            grown[j] = _exp(clamp * tanh[j])
        for j in range(moved):
            stretched[j] = x_moved[j] * grown[j]
        for j in range(moved):
            gradients[j] += row_moved[j] * (stretched[j] + _read(t, j))
        for j in range(moved):
            t_exact[j] = row_moved[j] * scale_moved[j]
        for j in range(moved):
            x_out[j] = t_exact[j] * grown[j]
        for j in range(moved):
            _write(t_out, j, t_exact[j])
        for j in range(moved):
            _write(s_out, j, (t_exact[j] * stretched[j] + log) * clamp * (_ONE - tanh[j] * tanh[j]))


@compiled
def _read(array: Any, k: int) -> Any:
    """A float32 or bfloat16 number as float32; the type is known at compile time, so one branch is left out."""
    if array.itemsize == 2:  # a bfloat16's bits are the upper half of a float32's
        return np.uint32(np.uint32(array[k]) << np.uint32(16)).view(np.float32)
    return np.float32(array[k])


@compiled
def _write(array: Any, k: int, value: Any) -> None:
    """Store a number; bfloat16 rounds to nearest, ties to even, as torch does."""
    if array.itemsize == 2:
        bits = np.float32(value).view(np.uint32)
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        array[k] = np.uint32(bits + odd + np.uint32(0x7FFF)) >> np.uint32(16)
    else:
        array[k] = value


@compiled
def _exp(value: Any) -> Any:
    """Relative error 2e-7 for |value| < 80; only operations that the compiler can vectorise."""
    whole = np.floor(value * _LOG2E + _HALF)
    rest = value - whole * _LN2
    total = _TAYLOR[7]
    total = total * rest + _TAYLOR[6]
    total = total * rest + _TAYLOR[5]
    total = total * rest + _TAYLOR[4]
    total = total * rest + _TAYLOR[3]
    total = total * rest + _TAYLOR[2]
    total = total * rest + _ONE
    total = total * rest + _ONE
    return total * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def _tanh(value: Any) -> Any:
    bounded = min(max(value, -_FARTHEST), _FARTHEST)
    return _ONE - _TWO / (_exp(_TWO * bounded) + _ONE)
