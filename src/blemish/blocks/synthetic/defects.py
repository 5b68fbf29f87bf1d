"""Synthetic defects in images of normal parts, with their masks.

Stains after Zavrtanik et al. (DRAEM, ICCV 2021), cuts after Li et al. (CutPaste, CVPR 2021), coarse noise after
Kascenas et al. (MIDL 2022). Random numbers are from torch's global generator. Nothing is clipped: a defect's
values lie between those of the images and textures that it is made of; noise may leave their range.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.synthetic.procedural import perlin_noise

Size = tuple[int, int]

SMALLEST, LARGEST = 0.005, 0.15
"""Area of a stain or rectangle as a share of the image's, before it is cut at the image's edge."""
SCAR = 0.1
"""Area of a scar as a share of a rectangle's."""
OCTAVES = 3
"""Octaves of the Perlin noise; with more, the stains' edges are more ragged."""
FAINTEST = 0.15
"""Smallest opacity of a stain."""
TINTS = 0.05, 0.3
"""Range of the blend of a cut with a random colour; never 0, so that no cut equals what it covers."""


def add_defects(images: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
    """Add one defect to each image: with equal probability a stain of some texture or a cut from an image of the batch.

    Args:
        images: (N, 3, H, W), of any range of values.
        textures: (K, 3, h, w) of the same range and any size; smaller ones are repeated.

    Returns:
        The images, and masks (N, 1, H, W) of the pixels that may have changed; no mask is empty.
    """
    size = images.shape[2], images.shape[3]
    is_stain = torch.rand(len(images)) < 0.5
    stained, cut = is_stain.nonzero()[:, 0], (~is_stain).nonzero()[:, 0]
    masks = torch.empty(len(images), 1, *size, dtype=torch.bool, device=images.device)
    masks[stained] = _stains(len(stained), size).to(images.device)
    masks[cut] = _cuts(len(cut), size).to(images.device)

    fillings = torch.empty_like(images)
    stains = _pieces(textures, torch.randint(len(textures), stained.shape), size)
    opacity = _uniform((len(stained), 1, 1, 1), FAINTEST, 1).to(images.device)
    fillings[stained] = torch.lerp(images[stained], stains, opacity)
    others = torch.randint(len(images), cut.shape)
    pasted = _pieces(images, torch.where(torch.rand(len(cut)) < 0.5, cut, others), size)
    colours = _pieces(textures, torch.randint(len(textures), cut.shape), (1, 1))
    fillings[cut] = torch.lerp(pasted, colours, _uniform((len(cut), 1, 1, 1), *TINTS).to(images.device))
    return torch.where(masks, fillings, images), masks


def add_noise(images: Tensor, deviation: float, cell: int) -> Tensor:
    """Add Gaussian noise to images (N, C, H, W).

    Args:
        images: Of any range of values.
        deviation: Standard deviation of the noise at the grid points, in the unit of the images' values.
        cell: Distance in pixels of the grid points, between which noise is interpolated bilinearly; 1 for independent
            noise at every pixel. The grid is shifted at random in each call.
    """
    height, width = images.shape[2:]
    grid = [-(-side // cell) + 2 for side in (height, width)]
    noise = torch.randn(*images.shape[:2], *grid).to(images.device)
    if cell > 1:
        noise = functional.interpolate(noise, scale_factor=float(cell), mode="bilinear")
    # Half a cell at each edge is not interpolated.
    top, left = (cell // 2 + torch.randint(cell, (2,))).tolist()
    return images + deviation * noise[:, :, top : top + height, left : left + width]


def _stains(count: int, size: Size) -> Tensor:
    """Masks (count, 1, H, W) of the largest values of Perlin noise; each noise map gives two, for peaks and valleys."""
    if not count:
        return torch.empty(0, 1, *size, dtype=torch.bool)
    half = -(-size[0] // 2), -(-size[1] // 2)  # enough for blobs, at a quarter of the cost
    noise = torch.stack([perlin_noise(half, octaves=OCTAVES) for _ in range(-(-count // 2))])[:, None]
    noise = functional.interpolate(torch.cat([noise, -noise])[:count], size, mode="bilinear")
    kept = (_areas(count) * math.prod(size)).round().long().clamp_min(1)
    ranked = noise.flatten(1).topk(int(kept.max())).values
    return noise >= ranked.gather(1, kept[:, None] - 1)[:, :, None, None]


def _cuts(count: int, size: Size) -> Tensor:
    """Masks (count, 1, H, W): axis-parallel rectangles, or thin scars of any direction."""
    shape = (count, 1, 1, 1)
    is_scar = torch.rand(shape) < 0.5
    area = _areas(count).view(shape) * math.prod(size) * torch.where(is_scar, SCAR, 1.0)
    elongation = torch.where(is_scar, _uniform(shape, 6, 20), _uniform(shape, 1, 3))
    angle = torch.where(is_scar, _uniform(shape, 0, math.pi), torch.randint(2, shape) * (math.pi / 2))
    half_length = (area * elongation).sqrt() / 2
    half_width = (half_length / elongation).clamp_min(1)
    # Relative to a random pixel of the image, which is always inside.
    y = (torch.arange(size[0]) - torch.randint(size[0], (count, 1)))[:, None, :, None]
    x = (torch.arange(size[1]) - torch.randint(size[1], (count, 1)))[:, None, None]
    along, across = y * angle.sin() + x * angle.cos(), y * angle.cos() - x * angle.sin()
    return (along.abs() <= half_length) & (across.abs() <= half_width)


def _pieces(stock: Tensor, which: Tensor, size: Size) -> Tensor:
    """Random crops of the images stock[which], mirrored at random: (len(which), 3, *size)."""
    row, column = (
        torch.randint(length, (len(which), 1)) + _signs(len(which)) * torch.arange(side)
        for length, side in zip(stock.shape[2:], size, strict=True)
    )
    channel, which = torch.arange(3)[:, None, None], which[:, None, None, None]
    indices = which, channel, row[:, None, :, None] % stock.shape[2], column[:, None, None] % stock.shape[3]
    return stock[tuple(index.to(stock.device) for index in indices)]


def _signs(count: int) -> Tensor:
    """1 or -1 with equal probability: (count, 1)."""
    return 2 * torch.randint(2, (count, 1)) - 1


def _areas(count: int) -> Tensor:
    """Log-uniform shares (count,) of the image's area."""
    return torch.exp(_uniform((count,), math.log(SMALLEST), math.log(LARGEST)))


def _uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape)
