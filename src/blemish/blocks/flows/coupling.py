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
Numbers = NDArray[np.float32] | NDArray[np.uint16]
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Move x to y = P((x_a, x_b · exp(s) + t) · scale + offset) with s = clamp · tanh.

    Args:
        x: (N, A + B, H, W), x_a before x_b.
        raw: (N, 2B, H, W), s before its clamp, then t; in bfloat16 if the subnets compute in it.
        scale: Of each channel of x (C,).
        offset: Of each channel of x (C,).
        order: Which channel comes to each place (C,).
        clamp: Bound of |s|.

    Returns:
        y, its first A channels as raw's type for the next subnet, and the sum of s of each image (N,).
    """
    if not _compiles(x):
        return couple_plainly(x, raw, scale, offset, order, clamp)
    found = _Couple.apply(x, raw, scale, offset, order, clamp)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor, Tensor]", found)


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
) -> tuple[Tensor, Tensor, Tensor]:
    """`couple` in tensor operations."""
    moved = raw.shape[1] // 2
    kept = x.shape[1] - moved
    s, t = clamp * torch.tanh(raw[:, :moved].to(x.dtype)), raw[:, moved:]
    joined = torch.cat([x[:, :kept], x[:, kept:] * s.exp() + t], 1)
    y = (joined * scale[:, None, None] + offset[:, None, None]).index_select(1, order)
    return y, y[:, :kept].to(raw.dtype), s.sum((1, 2, 3))


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
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, raw_rows = _rows(x), _rows(raw)
        y, log = _like(rows), x.new_empty(len(x))
        kept = raw.new_empty(*rows.shape[:2], x.shape[1] - raw.shape[1] // 2)
        placed = (scale[order].numpy(), offset[order].numpy(), _unsigned(order), np.float32(clamp))
        _each_image(_forward, (rows, raw_rows, y, kept, log), placed)
        ctx.save_for_backward(rows, raw_rows, scale, order)
        ctx.clamp, ctx.shape = clamp, x.shape
        return _map(y, x.shape), _map(kept, x.shape), log

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y_gradient, kept_gradient, log_gradient = gradients
        rows, raw_rows, scale, order = ctx.saved_tensors
        n, channels = len(rows), rows.shape[2]
        x_gradient, raw_gradient = _like(rows), torch.empty_like(raw_rows)
        scale_gradient, offset_gradient = rows.new_zeros(n, channels), rows.new_zeros(n, channels)
        read = (rows, raw_rows, _rows(y_gradient), _rows(kept_gradient), log_gradient.contiguous())
        written = (x_gradient, raw_gradient, scale_gradient, offset_gradient)
        placed = (scale.numpy(), _unsigned(order.argsort()), np.float32(ctx.clamp))
        _each_image(_backward, (*read, *written), placed)
        maps = (_map(x_gradient, ctx.shape), _map(raw_gradient, ctx.shape))
        return (*maps, scale_gradient.sum(0), offset_gradient.sum(0), None, None)


def _like(rows: Tensor) -> Tensor:
    """Memory from numpy, which asks for huge pages: thousands of small ones take longer to set up than to fill."""
    return torch.from_numpy(np.empty(rows.shape, np.float32))


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W, C), without a copy if the channels lie last in memory."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _map(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    unflat: Tensor = rows.unflatten(1, shape[2:])
    return unflat.permute(0, 3, 1, 2)


def _unsigned(indices: Tensor) -> Indices:
    """Indices of which a compiler knows that they do not count from the end."""
    return indices.numpy().view(np.uint64)


def _each_image(kernel: Callable[..., None], tensors: tuple[Tensor, ...], settings: tuple[Any, ...]) -> None:
    """Run a kernel on every image, on as many threads as torch uses."""
    workers, images = torch.get_num_threads(), range(len(tensors[0]))
    # numpy, which has no bfloat16, gets its bits
    arrays = [(x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy() for x in tensors]

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
def _read(array: Any, k: int) -> Any:
    """A float32 or a bfloat16 as float32; the compiler knows which, and leaves the other branch out."""
    if array.itemsize == 2:  # a bfloat16's bits are the upper half of a float32's
        return np.uint32(np.uint32(array[k]) << np.uint32(16)).view(np.float32)
    return np.float32(array[k])


@_compiled
def _write(array: Any, k: int, value: Any) -> None:
    """Of bfloat16s the nearest one, of two the even one, as torch rounds."""
    if array.itemsize == 2:
        bits = np.float32(value).view(np.uint32)
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        array[k] = np.uint32(bits + odd + np.uint32(0x7FFF)) >> np.uint32(16)
    else:
        array[k] = value


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
    raw: Numbers,
    y: Floats,
    first: Numbers,
    log: Floats,
    scale: Floats,
    offset: Floats,
    order: Indices,
    clamp: Any,
) -> None:
    """One image: x, y (P, C), raw (P, 2B) and first (P, A); scale and offset already in y's order."""
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


@_compiled
def _backward(
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
    """One image; place: where in y each channel of x went."""
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
        for j in range(moved):  # short loops: of few arrays it can be told that none overlaps another
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
