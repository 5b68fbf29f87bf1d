"""The arithmetic of an affine coupling step, between its subnet and the next step.

As tensor operations it reads and writes a map a dozen times, which on a processor takes longer than the subnets'
convolutions. `couple` therefore has a second form, compiled by numba (`coupling_kernels`), forwards and backwards;
`couple_plainly` computes the same in tensor operations and is used everywhere else.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from blemish.blocks.flows import coupling_kernels
from blemish.blocks.flows.coupling_kernels import Indices


def couple(
    x: Tensor, raw: Tensor, scale: Tensor, offset: Tensor, order: Tensor, clamp: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Move x to y = P((x_a, x_b · exp(s) + t) · scale + offset) with s = clamp · tanh.

    Args:
        x: (N, A + B, H, W), x_a before x_b.
        raw: (N, 2B, H, W), s before its clamp, then t; in bfloat16 if the subnets compute in it.
        scale: (C,), in the order of x's channels.
        offset: (C,), likewise.
        order: (C,): the channel of x that comes to each place of y.
        clamp: Bound of |s|.

    Returns:
        y, its first A channels as raw's type for the next subnet, and the sum of s of each image (N,).
    """
    if not _compiles(x):
        return couple_plainly(x, raw, scale, offset, order, clamp)
    found = _Couple.apply(x, raw, scale, offset, order, clamp)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor, Tensor]", found)


def first_channels(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first channels of x, and x for `couple`, which must be its only reader.

    The derivative of an ordinary slice is a whole map, zero outside the slice, that is added to x's other gradient.
    Here the slice's gradient is added in place to the gradient that `couple` returned.
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
        _each_image(coupling_kernels.forward, (rows, raw_rows, y, kept, log), placed)
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
        _each_image(coupling_kernels.backward, (*read, *written), placed)
        maps = (_map(x_gradient, ctx.shape), _map(raw_gradient, ctx.shape))
        return (*maps, scale_gradient.sum(0), offset_gradient.sum(0), None, None)


def _like(rows: Tensor) -> Tensor:
    """Uninitialised memory from numpy, which asks for huge pages: small ones take longer to map than to fill."""
    return torch.from_numpy(np.empty(rows.shape, np.float32))


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W, C), without a copy if the memory format is channels-last."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _map(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    unflat: Tensor = rows.unflatten(1, shape[2:])
    return unflat.permute(0, 3, 1, 2)


def _unsigned(indices: Tensor) -> Indices:
    """The same indices as unsigned numbers."""
    return indices.numpy().view(np.uint64)


def _each_image(kernel: Callable[..., None], tensors: tuple[Tensor, ...], settings: tuple[Any, ...]) -> None:
    """Run a kernel on every image, on as many threads as torch uses."""
    workers, images = torch.get_num_threads(), range(len(tensors[0]))
    # numpy has no bfloat16: its bits are passed as uint16.
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
