"""Synthetic defects: pictures of normal parts made wrong at a place that is known.

Stains after Zavrtanik et al. (DRAEM, ICCV 2021), cuts after Li et al. (CutPaste, CVPR 2021), coarse noise after
Kascenas et al. (MIDL 2022). torch's global generator draws. Nothing is clipped: a defect's values lie between those
of the pictures and textures that it is made of; noise may leave their range.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.synthetic.procedural import perlin_noise

Size = tuple[int, int]

SMALLEST, LARGEST = 0.005, 0.15
"""Area of a stain or of a rectangle as a share of the picture's, before the picture's edge cuts it."""
SCAR = 0.1
"""Area of a scar as a share of a rectangle's."""
OCTAVES = 3
"""Of the Perlin noise; more fray the stains' edges."""
FAINTEST = 0.15
"""Smallest opacity of a stain."""
TINTS = 0.05, 0.3
"""How far a cut's colours are moved towards a random one, at least so that no cut equals what it covers."""


def add_defects(pictures: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures with one defect each: as often a stain of some texture as a cut from elsewhere in the batch.

    Args:
        pictures: (N, 3, H, W), of any range of values.
        textures: (K, 3, h, w) of the same range and any size; where one is too small it repeats itself.

    Returns:
        The pictures, and masks (N, 1, H, W) of where they may differ from what they were; no mask is empty.
    """
    size = pictures.shape[2], pictures.shape[3]
    is_stain = torch.rand(len(pictures)) < 0.5
    stained, cut = is_stain.nonzero()[:, 0], (~is_stain).nonzero()[:, 0]
    masks = torch.empty(len(pictures), 1, *size, dtype=torch.bool, device=pictures.device)
    masks[stained] = _stains(len(stained), size).to(pictures.device)
    masks[cut] = _cuts(len(cut), size).to(pictures.device)

    fillings = torch.empty_like(pictures)
    stains = _pieces(textures, torch.randint(len(textures), stained.shape), size)
    opacity = _uniform((len(stained), 1, 1, 1), FAINTEST, 1).to(pictures.device)
    fillings[stained] = torch.lerp(pictures[stained], stains, opacity)
    others = torch.randint(len(pictures), cut.shape)
    pasted = _pieces(pictures, torch.where(torch.rand(len(cut)) < 0.5, cut, others), size)
    colours = _pieces(textures, torch.randint(len(textures), cut.shape), (1, 1))
    fillings[cut] = torch.lerp(pasted, colours, _uniform((len(cut), 1, 1, 1), *TINTS).to(pictures.device))
    return torch.where(masks, fillings, pictures), masks


def add_noise(pictures: Tensor, deviation: float, cell: int) -> Tensor:
    """Pictures (N, C, H, W) plus Gaussian noise.

    Args:
        pictures: Of any range of values.
        deviation: Of the noise where it is drawn, in the unit of the pictures' values.
        cell: Pixels from one place where it is drawn to the next, with bilinear interpolation between; 1 for noise
            of every pixel on its own. The grid lies somewhere else in each call.
    """
    height, width = pictures.shape[2:]
    grid = [-(-side // cell) + 2 for side in (height, width)]
    noise = torch.randn(*pictures.shape[:2], *grid).to(pictures.device)
    if cell > 1:
        noise = functional.interpolate(noise, scale_factor=float(cell), mode="bilinear")
    # Half a cell at each edge is not interpolated.
    top, left = (cell // 2 + torch.randint(cell, (2,))).tolist()
    return pictures + deviation * noise[:, :, top : top + height, left : left + width]


def _stains(count: int, size: Size) -> Tensor:
    """Masks (count, 1, H, W) of where Perlin noise is strongest; its peaks make one, its valleys another."""
    if not count:
        return torch.empty(0, 1, *size, dtype=torch.bool)
    half = -(-size[0] // 2), -(-size[1] // 2)  # a quarter of the work, and as good for blobs
    noise = torch.stack([perlin_noise(half, octaves=OCTAVES) for _ in range(-(-count // 2))])[:, None]
    noise = functional.interpolate(torch.cat([noise, -noise])[:count], size, mode="bilinear")
    kept = (_areas(count) * math.prod(size)).round().long().clamp_min(1)
    ranked = noise.flatten(1).topk(int(kept.max())).values
    return noise >= ranked.gather(1, kept[:, None] - 1)[:, :, None, None]


def _cuts(count: int, size: Size) -> Tensor:
    """Masks (count, 1, H, W): upright rectangles, or thin scars of any direction."""
    shape = (count, 1, 1, 1)
    is_scar = torch.rand(shape) < 0.5
    area = _areas(count).view(shape) * math.prod(size) * torch.where(is_scar, SCAR, 1.0)
    elongation = torch.where(is_scar, _uniform(shape, 6, 20), _uniform(shape, 1, 3))
    angle = torch.where(is_scar, _uniform(shape, 0, math.pi), torch.randint(2, shape) * (math.pi / 2))
    half_length = (area * elongation).sqrt() / 2
    half_width = (half_length / elongation).clamp_min(1)
    # Seen from a pixel of the picture, so that at least this one is inside.
    y = (torch.arange(size[0]) - torch.randint(size[0], (count, 1)))[:, None, :, None]
    x = (torch.arange(size[1]) - torch.randint(size[1], (count, 1)))[:, None, None]
    along, across = y * angle.sin() + x * angle.cos(), y * angle.cos() - x * angle.sin()
    return (along.abs() <= half_length) & (across.abs() <= half_width)


def _pieces(stock: Tensor, which: Tensor, size: Size) -> Tensor:
    """A piece of each numbered picture of the stock, from anywhere, mirrored or not: (len(which), 3, *size)."""
    row, column = (
        torch.randint(length, (len(which), 1)) + _signs(len(which)) * torch.arange(side)
        for length, side in zip(stock.shape[2:], size, strict=True)
    )
    channel, which = torch.arange(3)[:, None, None], which[:, None, None, None]
    indices = which, channel, row[:, None, :, None] % stock.shape[2], column[:, None, None] % stock.shape[3]
    return stock[tuple(index.to(stock.device) for index in indices)]


def _signs(count: int) -> Tensor:
    """1 as often as -1: (count, 1)."""
    return 2 * torch.randint(2, (count, 1)) - 1


def _areas(count: int) -> Tensor:
    """Shares (count,) of the picture, of every order of magnitude alike."""
    return torch.exp(_uniform((count,), math.log(SMALLEST), math.log(LARGEST)))


def _uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape)
