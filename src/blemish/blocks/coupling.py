"""The arithmetic of an affine coupling step, between its subnet and the next step.

As tensor operations it reads and writes a map a dozen times, which on a processor takes longer than the subnets'
convolutions. `couple` therefore has a second form, compiled by numba, that does everything to a pixel while it is
in the cache, forwards and backwards; `couple_plainly` is what it computes, used everywhere else.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.uint64]
Function = TypeVar("Function", bound=Callable[..., Any])

_LOG2E = np.float32(1 / math.log(2))
_LN2 = np.float32(math.log(2))
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(8))
_FARTHEST = np.float32(20.0)
"""tanh is 1 in float32 far before."""
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


def couple(
    x: Tensor, raw: Tensor, scale: Tensor, offset: Tensor, order: Tensor, clamp: float
) -> tuple[Tensor, Tensor]:
    """P((x_a, x_b · exp(s) + t) · scale + offset) with s = clamp · tanh, and the sum of s of each image.

    Args:
        x: (N, A + B, H, W), x_a before x_b.
        raw: (N, 2B, H, W), s before its clamp, then t.
        scale: Of each channel of x (C,).
        offset: Of each channel of x (C,).
        order: Which channel comes to each place (C,).
        clamp: Bound of |s|.
    """
    if not _compiles(x):
        return couple_plainly(x, raw, scale, offset, order, clamp)
    return cast("tuple[Tensor, Tensor]", _Couple.apply(x, raw, scale, offset, order, clamp))  # type: ignore[no-untyped-call]


def first_channels(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first channels of x, and x for `couple`, which must be the one reader of it.

    A slice's derivative is a whole map of zeros with the slice in it, to be added to the other one. Here the
    slice's gradient is added where it belongs, in the gradient that `couple` has just made.
    """
    if not _compiles(x):
        return x[:, :count], x
    return cast("tuple[Tensor, Tensor]", _FirstChannels.apply(x, count))  # type: ignore[no-untyped-call]


def couple_plainly(
    x: Tensor, raw: Tensor, scale: Tensor, offset: Tensor, order: Tensor, clamp: float
) -> tuple[Tensor, Tensor]:
    """`couple` in tensor operations."""
    moved = raw.shape[1] // 2
    s, t = clamp * torch.tanh(raw[:, :moved]), raw[:, moved:]
    kept = x.shape[1] - moved
    joined = torch.cat([x[:, :kept], x[:, kept:] * s.exp() + t], 1)
    y = (joined * scale[:, None, None] + offset[:, None, None]).index_select(1, order)
    return y, s.sum((1, 2, 3))


def _compiles(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_exporting()


class _FirstChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        ctx.count = count
        return x[:, :count].contiguous(memory_format=torch.channels_last), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, first_gradient: Tensor, gradient: Tensor) -> tuple[Tensor, None]:
        gradient[:, : ctx.count] += first_gradient
        return gradient, None


class _Couple(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, raw: Tensor, scale: Tensor, offset: Tensor, order: Tensor, clamp: float
    ) -> tuple[Tensor, Tensor]:
        rows, raw_rows = _rows(x), _rows(raw)
        y, log = torch.empty_like(rows), x.new_empty(len(x))
        placed = (scale[order].numpy(), offset[order].numpy(), _unsigned(order), np.float32(clamp))
        _each_image(_forward, (rows.numpy(), raw_rows.numpy(), y.numpy(), log.numpy()), placed)
        ctx.save_for_backward(rows, raw_rows, scale, offset, order)
        ctx.clamp, ctx.shape = clamp, x.shape
        return _map(y, x.shape), log

    @staticmethod
    def backward(ctx: Any, y_gradient: Tensor, log_gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, raw_rows, scale, _, order = ctx.saved_tensors
        n, channels = len(rows), rows.shape[2]
        x_gradient, raw_gradient = torch.empty_like(rows), torch.empty_like(raw_rows)
        scale_gradient, offset_gradient = rows.new_zeros(n, channels), rows.new_zeros(n, channels)
        read = (rows, raw_rows, _rows(y_gradient), log_gradient.contiguous())
        written = (x_gradient, raw_gradient, scale_gradient, offset_gradient)
        placed = (scale.numpy(), _unsigned(order.argsort()), np.float32(ctx.clamp))
        _each_image(_backward, tuple(array.numpy() for array in (*read, *written)), placed)
        maps = (_map(x_gradient, ctx.shape), _map(raw_gradient, (*ctx.shape[:1], -1, *ctx.shape[2:])))
        return (*maps, scale_gradient.sum(0), offset_gradient.sum(0), None, None)


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W, C), without a copy if the channels lie last in memory."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _map(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    unflat: Tensor = rows.unflatten(1, shape[2:])
    return unflat.permute(0, 3, 1, 2)


def _unsigned(indices: Tensor) -> Indices:
    """Indices of which a compiler knows that they do not count from the end."""
    return indices.numpy().view(np.uint64)


def _each_image(kernel: Callable[..., None], arrays: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
    """Run a kernel on every image, on as many threads as torch uses."""
    workers, images = torch.get_num_threads(), range(len(arrays[0]))

    def run(i: int) -> None:
        kernel(*(array[i] if array.ndim > 1 else array[i : i + 1] for array in arrays), *settings)

    if workers == 1 or len(images) == 1:
        for i in images:
            run(i)
    else:
        list(_pool(workers).map(run, images))


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)


def _compiled(function: Function) -> Function:
    """Compile at the first call, keep the result on disk, let other threads run meanwhile."""
    return cast("Function", njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function))


@_compiled
def _exp(value: Any) -> Any:
    """To 2e-7, relatively, for |value| < 80; of operations that a compiler can do to 16 numbers at once."""
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


@_compiled
def _tanh(value: Any) -> Any:
    bounded = min(max(value, -_FARTHEST), _FARTHEST)
    return _ONE - _TWO / (_exp(_TWO * bounded) + _ONE)


@_compiled
def _forward(
    x: Floats,
    raw: Floats,
    y: Floats,
    log: Floats,
    scale: Floats,
    offset: Floats,
    order: Indices,
    clamp: Any,
) -> None:
    """One image: x, y (P, C) and raw (P, 2B); scale and offset already in y's order."""
    moved = raw.shape[1] // 2
    kept = x.shape[1] - moved
    row = np.empty(x.shape[1], np.float32)
    row_kept, row_moved = row[:kept], row[kept:]
    total = np.float64(0)
    for p in range(len(x)):
        x_kept, x_moved, t = x[p, :kept], x[p, kept:], raw[p, moved:]
        for i in range(kept):
            row_kept[i] = x_kept[i]
        sums = np.float32(0)
        for j in range(moved):
            s = clamp * _tanh(raw[p, j])
            sums += s
            row_moved[j] = x_moved[j] * _exp(s) + t[j]
        total += sums
        for k in range(len(row)):
            y[p, k] = row[order[k]] * scale[k] + offset[k]
    log[0] = total


@_compiled
def _backward(
    x: Floats,
    raw: Floats,
    y_gradient: Floats,
    log_gradient: Floats,
    x_gradient: Floats,
    raw_gradient: Floats,
    scale_gradient: Floats,
    offset_gradient: Floats,
    scale: Floats,
    place: Indices,
    clamp: Any,
) -> None:
    """One image; place: where in y each channel of x went."""
    moved = raw.shape[1] // 2
    kept = x.shape[1] - moved
    row = np.empty(x.shape[1], np.float32)
    row_kept, row_moved = row[:kept], row[kept:]
    scale_kept, scale_moved, gradients = scale[:kept], scale[kept:], scale_gradient[kept:]
    tanh = np.empty(moved, np.float32)
    grown = np.empty(moved, np.float32)
    stretched = np.empty(moved, np.float32)
    log = log_gradient[0]
    for p in range(len(x)):
        for i in range(len(row)):
            row[i] = y_gradient[p, place[i]]
        for i in range(len(row)):
            offset_gradient[i] += row[i]
        for i in range(kept):
            scale_gradient[i] += row_kept[i] * x[p, i]
            x_gradient[p, i] = row_kept[i] * scale_kept[i]
        x_moved, s, t = x[p, kept:], raw[p, :moved], raw[p, moved:]
        x_out, s_out, t_out = x_gradient[p, kept:], raw_gradient[p, :moved], raw_gradient[p, moved:]
        for j in range(moved):  # short loops: of few arrays it can be told that none overlaps another
            tanh[j] = _tanh(s[j])
        for j in range(moved):
            grown[j] = _exp(clamp * tanh[j])
        for j in range(moved):
            stretched[j] = x_moved[j] * grown[j]
        for j in range(moved):
            gradients[j] += row_moved[j] * (stretched[j] + t[j])
        for j in range(moved):
            t_out[j] = row_moved[j] * scale_moved[j]
        for j in range(moved):
            x_out[j] = t_out[j] * grown[j]
        for j in range(moved):
            s_out[j] = (t_out[j] * stretched[j] + log) * clamp * (_ONE - tanh[j] * tanh[j])
