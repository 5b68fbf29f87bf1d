"""Defects of the synthetic part: each is a random `Flaw`; its mask covers the visible changes of the photograph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from blemish.demo.blueprint import FEATURES, Blueprint, Plane, draw_blueprint
from blemish.demo.photo import Flaw, Part, expose, photograph_flawed
from blemish.demo.print import BLOCKS, LABEL, PAINT
from blemish.opencv import cv2
from blemish.types import Mask

VISIBLE = 5.0
"""Smallest change of any colour, of 255, in the mask: about 2.5 times the sensor's noise."""

_OXIDE = np.array(
    [[1, 1, 1], [1.0, 0.93, 0.76], [0.92, 0.72, 0.52], [0.70, 0.52, 0.60], [0.52, 0.60, 0.84]], np.float32
)
"""Colours of a growing oxide film on hot metal: bare, straw, brown, purple, blue."""


def add_defect(part: Part, defect_type: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mask]:
    """The part's photograph with a defect, and the defect's mask, both of the part's size.

    Outside the mask the image equals `part.image` exactly.

    Args:
        part: A normal part; it is not modified.
        defect_type: One of `DEFECT_TYPES`.
        rng: Generator of the defect's shape, position, size and contrast.
    """
    if defect_type not in _DRAW:
        raise ValueError(f"There is no defect type {defect_type!r}. Use one of {', '.join(DEFECT_TYPES)}.")
    blueprint = draw_blueprint(part.size)
    smallest = 10 * (blueprint.scale / 2) ** 2
    # Closing joins parts that an annotator would outline as one: a dent's two flanks, the dots of a faint scratch.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    while True:
        flawed = photograph_flawed(part, _DRAW[defect_type](blueprint, rng))
        changed = np.maximum.reduce(cv2.split(cv2.absdiff(flawed, part.photo))) > VISIBLE
        mask = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
        if mask.sum() >= smallest:
            photo = np.where(mask[..., None], flawed, part.photo)
            return expose(photo, part.noise), mask


def _draw_scratch(blueprint: Blueprint, rng: np.random.Generator) -> Flaw:
    """One to three curved grooves with a raised burr, lighter or darker than the surface."""
    groove = np.zeros(blueprint.x.shape, np.float32)
    x, y = _pick_spot(blueprint, rng, 4.0)
    heading, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.006)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        start = x + rng.normal(0, 4), y + rng.normal(0, 4)
        length = np.exp(rng.uniform(np.log(28), np.log(170)))
        path = _wander(rng, start, heading + rng.normal(0, 0.05), bend, length)
        groove = np.maximum(groove, _stroke(blueprint, rng, path, rng.uniform(0.6, 1.4)))
    # A scratch does not reach the floor of a pocket or a hole.
    groove *= blueprint.openness > 0.7
    contrast = rng.uniform(0.15, 0.55) * rng.choice([-1.0, 1.0, 1.0])
    ink = blueprint.ink.copy()
    ink[..., 3] = (ink[..., 3] * (1 - 0.85 * groove)).astype(np.uint8)
    return Flaw(relief=-rng.uniform(0.5, 1.4) * groove, scuff=contrast * groove, ink=ink)


def _draw_dent(blueprint: Blueprint, rng: np.random.Generator) -> Flaw:
    """A smooth hollow or bump with an irregular outline."""
    radius = np.exp(rng.uniform(np.log(6.0), np.log(24.0)))
    x, y = _pick_spot(blueprint, rng, 0.9 * radius)
    distance = _blob_distance(blueprint, rng, x, y, radius, roughness=0.10)
    height = np.exp(-2.2 * distance**2.6)
    steepness = rng.uniform(0.18, 0.55) * rng.choice([-1.0, -1.0, -1.0, 1.0])
    height *= steepness * radius * blueprint.scale
    return Flaw(relief=height)


def _draw_contamination(blueprint: Blueprint, rng: np.random.Generator) -> Flaw:
    """A stain, scattered chips or a fibre."""
    draw = (_draw_stain, _draw_chips, _draw_fibre)[rng.integers(3)]
    opacity, color = draw(blueprint, rng)
    film = np.empty((*opacity.shape, 4), np.float32)
    film[..., :3] = color
    film[..., 3] = opacity
    return Flaw(film=film)


def _draw_stain(blueprint: Blueprint, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Dried fluid: an irregular patch, denser at its rim, with a few splashes."""
    x, y = _pick_spot(blueprint, rng, 3.0, metal_only=False)
    radius = np.exp(rng.uniform(np.log(6), np.log(26)))
    density = np.zeros_like(blueprint.x)
    for _ in range(rng.integers(2, 7)):
        distance = _blob_distance(blueprint, rng, x, y, radius, roughness=0.35)
        inside = np.clip((1 - distance) * radius * 0.7, 0, 1)
        rim = np.exp(-(((1 - distance) * radius / 1.8) ** 2))
        density = np.maximum(density, inside * (0.55 + 0.45 * rim))
        x, y = x + rng.normal(0, 1.1) * radius, y + rng.normal(0, 1.1) * radius
        radius = max(1.5, radius * rng.uniform(0.2, 0.7))
    height, width = density.shape
    cloud = rng.standard_normal((height // 16, width // 16), np.float32)
    density *= np.clip(0.75 + 0.3 * cv2.resize(cloud, (width, height), interpolation=cv2.INTER_CUBIC), 0.2, 1)
    color = np.array([(58, 42, 26), (30, 30, 32), (96, 62, 34), (88, 84, 66)][rng.integers(4)], np.float32)
    return density * rng.uniform(0.22, 0.75), color


def _draw_chips(blueprint: Blueprint, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Dust and swarf: small angular grains around one place."""
    x, y = _pick_spot(blueprint, rng, 3.0, metal_only=False)
    spread = rng.uniform(6, 26)
    canvas = np.zeros(blueprint.x.shape, np.uint8)
    for _ in range(rng.integers(5, 26)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 8)))
        size = np.exp(rng.normal(0.35, 0.4)) * np.array([1.0, rng.uniform(0.4, 1.0)])
        center = np.array([x, y]) + rng.normal(0, spread, 2)
        corners = center + size * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(canvas, [_to_canvas(blueprint, corners)], 255, cv2.LINE_AA, shift=_SHIFT)
    color = np.array([(24, 24, 26), (70, 52, 36), (238, 236, 228)][rng.integers(3)], np.float32)
    return canvas * np.float32(rng.uniform(0.55, 0.95) / 255), color


def _draw_fibre(blueprint: Blueprint, rng: np.random.Generator) -> tuple[Plane, Plane]:
    x, y = _pick_spot(blueprint, rng, 3.0, metal_only=False)
    path = _wander(
        rng, (x, y), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.02), rng.uniform(30, 110), curl=0.012
    )
    canvas = np.zeros(blueprint.x.shape, np.uint8)
    thickness = max(1, round(rng.uniform(0.5, 0.9) * blueprint.scale))
    cv2.polylines(canvas, [_to_canvas(blueprint, path)], False, 255, thickness, cv2.LINE_AA, _SHIFT)
    color = np.array([(28, 28, 34), (40, 60, 120), (150, 40, 36)][rng.integers(3)], np.float32)
    return canvas * np.float32(rng.uniform(0.6, 0.95) / 255), color


def _draw_misprint(blueprint: Blueprint, rng: np.random.Generator) -> Flaw:
    """A part of the print is missing, shifted, smeared or badly transferred."""
    ink = blueprint.ink.copy()
    name = rng.choice(list(BLOCKS))
    left, top, right, bottom = _canvas_box(blueprint, BLOCKS[name])
    blank = (*PAINT, 255) if name != "scale" else (*ink[top:bottom, left:right, :3].reshape(-1, 3).min(0), 0)
    if (fault := rng.integers(4)) in (0, 3):
        # Only a part of the block is affected.
        width = max(8, round((right - left) * rng.uniform(0.15, 0.6)))
        left = int(rng.integers(left, right - width + 1))
        right = left + width
    block = ink[top:bottom, left:right].copy()
    if fault == 0:
        ink[top:bottom, left:right] = blank
    elif fault == 1:
        ink[top:bottom, left:right] = blank
        shift = rng.choice([-1, 1], 2) * rng.uniform(1.0, 4.5, 2) * blueprint.scale
        _overprint(ink, block, left + round(shift[0]), top + round(shift[1]), _print_limits(blueprint, name))
    elif fault == 2:
        drag = round(rng.uniform(3, 13) * blueprint.scale)
        kernel = np.linspace(1, 0.15, drag, dtype=np.float32)[None]
        smeared = cv2.filter2D(block, -1, kernel / kernel.sum(), anchor=(drag - 1, 0))
        ink[top:bottom, left:right] = cv2.addWeighted(block, 0.35, smeared, 0.65, 0)
    else:
        grain = cv2.GaussianBlur(
            rng.standard_normal(block.shape[:2], np.float32), (0, 0), 0.9 * blueprint.scale
        )
        bare = np.clip(grain / grain.std() * 1.5 + rng.uniform(0.0, 1.2), 0, 1)[..., None]
        ink[top:bottom, left:right] = (block + bare * (np.array(blank) - block)).astype(np.uint8)
    return Flaw(ink=ink)


def _draw_missing_feature(_: Blueprint, rng: np.random.Generator) -> Flaw:
    return Flaw(missing=str(rng.choice(FEATURES)))


def _draw_discolouration(blueprint: Blueprint, rng: np.random.Generator) -> Flaw:
    """Heat tint: the oxide film is thickest in the middle of a soft patch."""
    x, y = _pick_spot(blueprint, rng, 0.0)
    radius = rng.uniform(26, 85)
    distance = _blob_distance(blueprint, rng, x, y, radius, roughness=0.22)
    thickness = rng.uniform(1.0, 4.0) * np.clip(1.25 * np.exp(-1.6 * distance**2) - 0.12, 0, 1)
    lower = np.minimum(thickness.astype(np.intp), len(_OXIDE) - 2)
    rest = (thickness - lower)[..., None]
    return Flaw(tint=np.asarray(_OXIDE[lower] * (1 - rest) + _OXIDE[lower + 1] * rest, np.float32))


_DRAW: dict[str, Callable[[Blueprint, np.random.Generator], Flaw]] = {
    "scratch": _draw_scratch,
    "dent": _draw_dent,
    "contamination": _draw_contamination,
    "misprint": _draw_misprint,
    "missing_feature": _draw_missing_feature,
    "discolouration": _draw_discolouration,
}
DEFECT_TYPES = tuple(_DRAW)

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


def _to_canvas(blueprint: Blueprint, points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Fixed-point canvas coordinates of points (P, 2) in design units."""
    corner = np.array([blueprint.x[0, 0], blueprint.y[0, 0]])
    return np.asarray(np.round((points - corner) * blueprint.scale * 2**_SHIFT), np.int32)


def _canvas_box(blueprint: Blueprint, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in canvas pixels."""
    points = _to_canvas(blueprint, np.array(box, np.float64).reshape(2, 2)) >> _SHIFT
    return int(points[0, 0]), int(points[0, 1]), int(points[1, 0]), int(points[1, 1])


def _pick_spot(
    blueprint: Blueprint, rng: np.random.Generator, margin: float, *, metal_only: bool = True
) -> tuple[float, float]:
    """A place in design units, `margin` units away from holes and edges, and from print if `metal_only`."""
    clear = (blueprint.coverage > 0.99) & (blueprint.brushed > 0.99) & (blueprint.steepness < 1.01)
    if metal_only:
        clear &= blueprint.ink[..., 3] == 0
    room = cv2.distanceTransform(clear.astype(np.uint8), cv2.DIST_L2, 3)
    spots = np.flatnonzero(room > margin * blueprint.scale)
    spot = rng.choice(spots)
    return float(blueprint.x.flat[spot]), float(blueprint.y.flat[spot])


def _wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    bend: float,
    length: float,
    curl: float = 0.006,
) -> NDArray[np.float64]:
    """A random path (P, 2) of one-unit steps; `bend` and `curl`, in radians per unit, change its direction."""
    steps = max(4, int(length))
    headings = heading + np.cumsum(bend + np.cumsum(rng.normal(0, curl / 4, steps)))
    return np.asarray(
        np.array(start) + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1), 0), np.float64
    )


def _stroke(blueprint: Blueprint, rng: np.random.Generator, path: NDArray[np.float64], width: float) -> Plane:
    """A line along the path whose pressure rises, varies and fades out, in [0, 1]."""
    steps = len(path)
    pressure = np.interp(np.arange(steps), np.linspace(0, steps, 8), rng.uniform(0.45, 1.0, 8))
    pressure *= np.minimum(1, 5 * np.minimum(np.arange(1, steps + 1), np.arange(steps, 0, -1)) / steps)
    canvas = np.zeros(blueprint.x.shape, np.uint8)
    points = _to_canvas(blueprint, path)
    for first, second, press in zip(points[:-1], points[1:], pressure, strict=False):
        thickness = max(1, round(width * blueprint.scale * float(press)))
        cv2.line(canvas, first, second, 255 * float(press), thickness, cv2.LINE_AA, _SHIFT)
    return np.asarray(
        cv2.GaussianBlur(canvas * np.float32(1 / 255), (0, 0), 0.2 * blueprint.scale), np.float32
    )


def _blob_distance(
    blueprint: Blueprint, rng: np.random.Generator, x: float, y: float, radius: float, *, roughness: float
) -> Plane:
    """Distance to (x, y) as a share of an irregular outline's radius: 1 on the outline."""
    # The outline is smooth, so a quarter of the resolution holds it.
    right, down = blueprint.x[::4, ::4] - np.float32(x), blueprint.y[::4, ::4] - np.float32(y)
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.normal(0, 0.15))
    along = (right * np.float32(np.cos(turn)) + down * np.float32(np.sin(turn))) * np.float32(stretch)
    across = (down * np.float32(np.cos(turn)) - right * np.float32(np.sin(turn))) / np.float32(stretch)
    angle = np.arctan2(across, along)
    outline = np.ones_like(angle)
    for lobes in (2, 3, 5, 8):
        outline += np.float32(roughness * rng.normal(0, 1.2 / lobes)) * np.cos(
            lobes * angle + np.float32(rng.uniform(0, 2 * np.pi))
        )
    distance = np.hypot(along, across) / (np.maximum(outline, 0.35) * np.float32(radius))
    return np.asarray(cv2.resize(distance, blueprint.x.shape[::-1]), np.float32)


def _print_limits(blueprint: Blueprint, block: str) -> tuple[int, int, int, int]:
    """Box of possible print in canvas pixels: the painted field, or the free metal around the scale."""
    if block != "scale":
        return _canvas_box(blueprint, LABEL)
    left, top, right, bottom = BLOCKS[block]
    return _canvas_box(blueprint, (left - 6, top - 6, right + 3, bottom + 6))


def _overprint(
    ink: NDArray[np.uint8],
    block: NDArray[np.uint8],
    left: int,
    top: int,
    limits: tuple[int, int, int, int],
) -> None:
    """Print `block` at (left, top), clipped to `limits`; the darker and denser ink stays visible."""
    first_x, first_y = max(left, limits[0]), max(top, limits[1])
    last_x, last_y = min(left + block.shape[1], limits[2]), min(top + block.shape[0], limits[3])
    block = block[first_y - top : last_y - top, first_x - left : last_x - left]
    target = ink[first_y:last_y, first_x:last_x]
    denser = (block[..., 3] >= target[..., 3])[..., None]
    target[...] = np.where(denser, np.minimum(block, np.where(target[..., 3:] > 0, target, block)), target)
