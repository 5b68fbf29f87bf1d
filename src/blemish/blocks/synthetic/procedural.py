"""Procedural images: a substitute for photos and textures of other objects where none are given.

Each function draws from `generator` (torch's global one if None), so images are reproducible. Images are (3, H, W)
in [0, 1]; no file is read.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Size = tuple[int, int]
Generator = torch.Generator | None


def procedural_images(count: int, size: Size, generator: Generator = None) -> Tensor:
    """Images (count, 3, H, W) of four kinds in turn: clouds, cells, stripes, leaves."""
    return torch.stack([_kinds()[i % len(_kinds())](size, generator) for i in range(count)])


def procedural_image(size: Size, generator: Generator = None) -> Tensor:
    """One image (3, H, W) of a random kind."""
    kind = int(torch.randint(len(_kinds()), (), generator=generator))
    return _kinds()[kind](size, generator)


def _kinds() -> tuple[Callable[[Size, Generator], Tensor], ...]:
    return clouds, cells, stripes, leaves


def clouds(size: Size, generator: Generator = None) -> Tensor:
    """Perlin noise of several octaves between two random colours, partly independent in every channel."""
    shared = perlin_noise(size, generator)
    own = torch.stack([perlin_noise(size, generator) for _ in range(3)])
    level = (0.5 + shared + 0.3 * own).clamp(0, 1)
    return _between(level, generator)


def cells(size: Size, generator: Generator = None) -> Tensor:
    """A Voronoi diagram of randomly coloured cells, darker towards their borders."""
    count = int(_uniform(8, 60, generator))
    sites = torch.rand(count, 2, generator=generator) * torch.tensor(size)
    rows, columns = _pixels(size)
    distance = (rows - sites[:, 0, None, None]).square() + (columns - sites[:, 1, None, None]).square()
    nearest = distance.topk(2, dim=0, largest=False)
    first, second = nearest.values.sqrt()
    border = ((second - first) / _uniform(2, 12, generator)).clamp(0, 1)
    colours = torch.rand(count, 3, generator=generator)
    darkness = _uniform(0, 1, generator)
    image: Tensor = colours[nearest.indices[0]].permute(2, 0, 1) * (1 - darkness * (1 - border))
    return image


def stripes(size: Size, generator: Generator = None) -> Tensor:
    """The product of two gratings of random direction, period and sharpness, distorted by noise."""
    rows, columns = _pixels(size)
    level = torch.ones(size)
    for _ in range(2):
        angle, period = (
            _uniform(0, math.pi, generator),
            math.exp(_uniform(math.log(4), math.log(64), generator)),
        )
        bend = _uniform(0, 2, generator) * perlin_noise(size, generator)
        along = rows * math.sin(angle) + columns * math.cos(angle)
        wave = torch.sin(2 * math.pi * (along / period + bend) + _uniform(0, 2 * math.pi, generator))
        level = level * (0.5 + 0.5 * torch.tanh(wave * _uniform(0.5, 6, generator)))
    return _between(level.expand(3, *size), generator)


def leaves(size: Size, generator: Generator = None, count: int = 120) -> Tensor:
    """The dead-leaves model: overlapping shaded discs and rectangles with sizes of a power law."""
    rows, columns = _pixels(size)
    image = _colour(generator).expand(3, *size).clone()
    largest = max(size) / 3
    for _ in range(count):
        radius = min(3 / math.sqrt(1 - _uniform(0, 0.999, generator)), largest)
        y, x = _uniform(0, size[0], generator), _uniform(0, size[1], generator)
        angle = _uniform(0, math.pi, generator)
        along = (rows - y) * math.sin(angle) + (columns - x) * math.cos(angle)
        across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
        is_disc = _uniform(0, 1, generator) < 0.5
        inside = (
            along**2 + across**2 < radius**2
            if is_disc
            else (along.abs() < radius) & (across.abs() < radius / 2)
        )
        shading = 1 + _uniform(-0.3, 0.3, generator) * along / radius
        image = torch.where(inside, _colour(generator) * shading, image)
    return image.clamp(0, 1)


def perlin_noise(size: Size, generator: Generator = None, octaves: int = 5) -> Tensor:
    """Gradient noise (H, W), about -0.7 to 0.7; each octave has half the period and amplitude of the last."""
    noise = torch.zeros(size)
    period = _uniform(0.25, 1, generator) * max(size)
    strength = 0.5
    for _ in range(octaves):
        noise = noise + strength * _gradient_noise(size, period, generator)
        period, strength = max(period / 2, 2.0), strength / 2
    return noise


def _gradient_noise(size: Size, period: float, generator: Generator) -> Tensor:
    """One octave of Perlin noise on a lattice of `period` pixels."""
    lattice = [int(side / period) + 2 for side in size]
    angle = 2 * math.pi * torch.rand(*lattice, generator=generator)
    offset = torch.rand(2, generator=generator)
    rows, columns = _pixels(size)
    y, x = rows / period + offset[0], columns / period + offset[1]
    top, left = y.floor(), x.floor()
    total = torch.zeros(size)
    for down in (0, 1):
        for right in (0, 1):
            dy, dx = y - top - down, x - left - right
            chosen = angle[
                (top + down).long().clamp_max(lattice[0] - 1), (left + right).long().clamp_max(lattice[1] - 1)
            ]
            slope = chosen.sin() * dy + chosen.cos() * dx
            total = total + _faded(dy) * _faded(dx) * slope
    return total * math.sqrt(2)


def _faded(distance: Tensor) -> Tensor:
    """Perlin's weight of a lattice point: 1 at it, 0 at its neighbours, smooth to the second derivative."""
    t = 1 - distance.abs()
    return t**3 * (t * (6 * t - 15) + 10)


def _between(level: Tensor, generator: Generator) -> Tensor:
    """Map values (3, H, W) in [0, 1] to colours between two random ones."""
    return torch.lerp(_colour(generator).expand_as(level), _colour(generator).expand_as(level), level)


def _colour(generator: Generator) -> Tensor:
    """A random colour (3, 1, 1), grey with probability 1/2."""
    colour = torch.rand(3, 1, 1, generator=generator)
    return colour[:1].expand(3, 1, 1) if _uniform(0, 1, generator) < 0.5 else colour


def _pixels(size: Size) -> tuple[Tensor, Tensor]:
    """Row numbers (H, 1) and column numbers (1, W)."""
    return torch.arange(size[0], dtype=torch.float32)[:, None], torch.arange(size[1], dtype=torch.float32)[
        None
    ]


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
