"""Photographs of the synthetic part: finish of the metal, light, pose, background and camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blemish.demo.blueprint import (
    SLOT,
    SUPERSAMPLING,
    Blueprint,
    Plane,
    draw_blueprint,
)
from blemish.opencv import cv2

_NORMAL_LEVELS = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)], np.float32)
_BELT = (50.0, 58.0, 62.0)
_METAL = (0.985, 1.0, 1.005)
"""Colours, red first: the belt in 0..255, the metal relative to grey."""


@dataclass(frozen=True)
class View:
    """Random light, pose and lens of one photograph."""

    light: tuple[float, float, float]
    """Unit vector from the part to the lamp: right, down, towards the camera."""
    brightness: float
    warmth: float
    """Relative excess of red over blue."""
    gradient: tuple[float, float]
    """Relative change of the light across the image's width and height."""
    pose: NDArray[np.float64]
    """(2, 3) affine matrix from the canvas to the supersampled image."""
    blur: float
    """Gaussian sigma of the lens blur, in pixels."""


@dataclass(frozen=True)
class Flaw:
    """The changes of a defect on the supersampled canvas; None changes nothing."""

    missing: str = ""
    """A name from `blueprint.FEATURES`."""
    relief: Plane | None = None
    """(H, W) height added to the surface, canvas pixels."""
    scuff: Plane | None = None
    """(H, W) relative change of the metal's brightness."""
    ink: NDArray[np.uint8] | None = None
    """(H, W, 4) RGBA print instead of the correct one."""
    tint: Plane | None = None
    """(H, W, 3) factor of the metal's colour, as of an oxide film."""
    film: Plane | None = None
    """(H, W, 4) matter on the surface: RGB in 0..255 and its opacity in [0, 1]."""


@dataclass(frozen=True)
class Part:
    """A normal part and its photograph."""

    size: tuple[int, int]
    view: View
    brushing: Plane = field(repr=False)
    """(H, W) relative brightness of this part's brushing marks, on the supersampled canvas."""
    bands: Plane = field(repr=False)
    """(W,) reflection along the plate: brushed metal reflects its surroundings as vertical bands."""
    rings: Plane = field(repr=False)
    """(1024,) relative brightness of the turning marks by radius, four entries per design unit."""
    background: Plane = field(repr=False)
    """(height, width) relative brightness of the conveyor belt."""
    noise: Plane = field(repr=False)
    """(height, width, 3) standard normal noise of the sensor."""
    photo: Plane = field(repr=False)
    """(height, width, 3) the part without sensor noise, 0..255."""
    image: NDArray[np.uint8] = field(repr=False)
    """(height, width, 3) RGB, the camera's image."""


def render_part(rng: np.random.Generator, *, size: tuple[int, int] = (480, 640)) -> Part:
    """A normal part with random machining marks, light and pose.

    Args:
        rng: Generator of all variation; the same state gives the same part.
        size: Height and width of the image.
    """
    blueprint = draw_blueprint(size)
    height, width = blueprint.coverage.shape
    view = _draw_view(rng, size, blueprint.corner)
    brushing = _draw_brushing(rng, height, width)
    bands = _draw_bands(rng, width)
    rings = 0.10 * rng.standard_normal(1024, np.float32)
    background = _draw_belt(rng, size)
    noise = _draw_normal(rng, (*size, 3))
    layer = _shade(blueprint, Flaw(), view, brushing, bands, rings)
    photo = _photograph(layer, view, background)
    return Part(size, view, brushing, bands, rings, background, noise, photo, expose(photo, noise))


def photograph_flawed(part: Part, flaw: Flaw) -> Plane:
    """The same part in the same view with `flaw`, without sensor noise: (height, width, 3), 0..255."""
    blueprint = draw_blueprint(part.size, flaw.missing)
    layer = _shade(blueprint, flaw, part.view, part.brushing, part.bands, part.rings)
    return _photograph(layer, part.view, part.background)


def expose(photo: Plane, noise: Plane) -> NDArray[np.uint8]:
    """The sensor's image of the light, with read noise and, growing with the signal, shot noise."""
    sigma = photo * np.float32(0.018)
    sigma += np.float32(0.8)
    np.sqrt(sigma, out=sigma)
    sigma *= noise
    return cv2.add(photo, sigma, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def _draw_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Plane:
    """Standard normal noise of 256 levels, which is ten times as fast to draw as exact noise."""
    levels = rng.integers(0, 256, (shape[0], int(np.prod(shape[1:]))), np.uint8)
    return np.asarray(cv2.LUT(levels, _NORMAL_LEVELS), np.float32).reshape(shape)


def _draw_view(rng: np.random.Generator, size: tuple[int, int], corner: tuple[float, float]) -> View:
    azimuth = np.radians(-125 + rng.normal(0, 10))
    tilt = np.radians(36 + rng.normal(0, 2))
    light = (np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt))
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.12)
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    turn = float(np.clip(rng.normal(0, 0.6), -1.5, 1.5))
    pose = np.asarray(
        cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1 + rng.normal(0, 0.002)), np.float64
    )
    pose[:, 2] += pose[:, :2] @ corner + np.clip(rng.normal(0, 0.004, 2), -0.009, 0.009) * width
    return View(
        light=light,
        brightness=1 + rng.normal(0, 0.035),
        warmth=rng.normal(0, 0.012),
        gradient=(strength * np.cos(direction), strength * np.sin(direction)),
        pose=pose,
        blur=rng.uniform(0.4, 0.7),
    )


def _draw_brushing(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Long fine streaks of several lengths; a few are deeper than the rest."""
    coarse = rng.standard_normal((height // 8 + 2, width // 600 + 2), np.float32)
    streaks = np.asarray(
        cv2.resize(0.016 * coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )
    for length, amplitude in ((400, 0.028), (120, 0.032), (36, 0.026), (10, 0.018)):
        rows = _draw_normal(rng, (height, width // length + 2))
        rows *= amplitude * (1 + 0.12 * rows * rows)
        streaks += cv2.resize(rows, (width, height), interpolation=cv2.INTER_LINEAR)
    return streaks


def _draw_bands(rng: np.random.Generator, width: int) -> Plane:
    x = np.linspace(0, 1, width, dtype=np.float32)
    center = rng.normal(0.42, 0.025)
    bands = 0.20 * np.exp(-(((x - center) / 0.20) ** 2)) + 0.10 * np.exp(-(((x - center - 0.42) / 0.10) ** 2))
    return np.asarray(0.93 + bands, np.float32)


def _draw_belt(rng: np.random.Generator, size: tuple[int, int]) -> Plane:
    """A dark woven belt, worn along its direction of travel."""
    height, width = size
    scale = min(height / 480, width / 640)
    phase = rng.uniform(0, 2 * np.pi, 2)
    pitch = 2 * np.pi / (5.0 * scale)
    level = np.outer(
        np.sin(np.arange(height) * pitch + phase[0]), np.sin(np.arange(width) * pitch + phase[1])
    ).astype(np.float32)
    level *= 0.07
    level += 1
    grain = _draw_normal(rng, (height // 2 + 1, width // 2 + 1))
    wear = _draw_normal(rng, (height // 6 + 2, width // 160 + 2))
    cloud = _draw_normal(rng, (5, 6))
    for noise, amplitude in ((grain, 0.07), (wear, 0.05), (cloud, 0.05)):
        level += cv2.resize(amplitude * noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return level


def _shade(
    blueprint: Blueprint, flaw: Flaw, view: View, brushing: Plane, bands: Plane, rings: Plane
) -> Plane:
    """Light leaving the surface: (H, W, 4), RGB times coverage in 0..255, then coverage in 0..1."""
    facing = _face_light(blueprint, flaw, view)
    metal = _reflect(blueprint, facing, brushing, bands)
    _mark_turning(blueprint, metal, rings, view)
    if flaw.scuff is not None:
        metal *= 1 + flaw.scuff
    metal *= blueprint.openness
    metal *= blueprint.coverage
    planes = [metal * np.float32(gain) for gain in _METAL]
    if flaw.tint is not None:
        for channel, plane in enumerate(planes):
            plane *= flaw.tint[..., channel]
    light = facing
    light /= np.float32(view.light[2])
    _print_on(planes, blueprint.ink if flaw.ink is None else flaw.ink, light)
    if flaw.film is not None:
        lit = (0.5 + 0.5 * light) * blueprint.coverage
        for channel, plane in enumerate(planes):
            plane += flaw.film[..., 3] * (flaw.film[..., channel] * lit - plane)
    return np.asarray(cv2.merge([*planes, blueprint.coverage]), np.float32)


def _face_light(blueprint: Blueprint, flaw: Flaw, view: View) -> Plane:
    """Cosine between the surface's normal and the light, at least 0."""
    slope_x, slope_y = blueprint.slope_x, blueprint.slope_y
    steepness = blueprint.steepness
    if flaw.relief is not None:
        slope_x = slope_x + cv2.Scharr(flaw.relief, cv2.CV_32F, 1, 0, scale=1 / 32)
        slope_y = slope_y + cv2.Scharr(flaw.relief, cv2.CV_32F, 0, 1, scale=1 / 32)
        steepness = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    right, down, front = view.light
    facing = np.asarray(cv2.addWeighted(slope_x, -right, slope_y, -down, front), np.float32)
    facing /= steepness
    return np.maximum(facing, 0, out=facing)


def _reflect(blueprint: Blueprint, facing: Plane, brushing: Plane, bands: Plane) -> Plane:
    """Brightness of bare metal, 0..255: diffuse light, glints on tilted facets, brushing, reflections."""
    glint = facing * facing
    for _ in range(3):
        glint *= glint
    metal = np.asarray(cv2.addWeighted(facing, 128, glint, 70, 62), np.float32)
    marks = np.multiply(blueprint.brushed, brushing, out=glint)
    marks += 1
    metal *= marks
    metal *= bands
    return metal


def _mark_turning(blueprint: Blueprint, metal: Plane, rings: Plane, view: View) -> None:
    """Add turning marks: concentric grooves reflect the lamp as a bow tie across the hole; milled floors have arcs."""
    flat = metal.reshape(-1)
    groove = np.interp(blueprint.turned_radius * 4, np.arange(len(rings)), rings).astype(np.float32)
    toward = np.arctan2(view.light[1], view.light[0])
    bow = np.cos(blueprint.turned_angle - np.float32(toward)) ** 2
    flat[blueprint.turned] *= 0.76 + 0.50 * bow * bow + groove * (0.5 + bow)
    x, y = blueprint.x.reshape(-1)[blueprint.milled], blueprint.y.reshape(-1)[blueprint.milled]
    arc = x - np.sqrt(26.0**2 - (y - np.float32(SLOT[1])) ** 2)
    flat[blueprint.milled] *= 0.94 + 0.07 * np.sin(arc * np.float32(2 * np.pi / 4.4))


def _print_on(planes: list[Plane], ink: NDArray[np.uint8], light: Plane) -> None:
    """Add matte print to the metal; it never reaches an edge, so that coverage can be ignored."""
    rows, columns = np.flatnonzero(ink[..., 3].any(1)), np.flatnonzero(ink[..., 3].any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    opacity = ink[..., 3][window] * np.float32(0.97 / 255)
    for channel, plane in enumerate(planes):
        printed = ink[..., channel][window] * light[window]
        printed -= plane[window]
        printed *= opacity
        plane[window] += printed


def _photograph(layer: Plane, view: View, background: Plane) -> Plane:
    """The shaded part placed on the belt as the camera sees it, without noise."""
    height, width = background.shape
    canvas = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    placed = cv2.warpAffine(layer, view.pose, canvas, flags=cv2.INTER_LINEAR)
    placed = cv2.resize(placed, (width, height), interpolation=cv2.INTER_AREA)
    *planes, coverage = (np.asarray(plane, np.float32) for plane in cv2.split(placed))
    belt = _cast_shadow(coverage, view)
    belt *= 1 - coverage
    belt *= background
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    lamp = 1 + across * np.float32(view.gradient[0]) + down * np.float32(view.gradient[1])
    lamp *= (1 - np.float32(0.16) * across**2) * (1 - np.float32(0.16) * down**2)
    for plane, color, temperature in zip(planes, _BELT, (1 + view.warmth, 1, 1 - view.warmth), strict=True):
        plane += belt * np.float32(color)
        plane *= lamp
        plane *= np.float32(view.brightness * temperature)
        np.minimum(plane, 255, out=plane)
    return np.asarray(cv2.GaussianBlur(cv2.merge(planes), (0, 0), view.blur), np.float32)


def _cast_shadow(coverage: Plane, view: View) -> Plane:
    """Light that reaches the belt beside and under the plate, 0.25..1."""
    height, width = coverage.shape
    reach = 0.026 * height / np.hypot(view.light[0], view.light[1])
    offset = np.array([[1, 0, -view.light[0] * reach], [0, 1, -view.light[1] * reach]])
    cast = cv2.warpAffine(coverage, offset, (width, height), flags=cv2.INTER_LINEAR)
    cast = cv2.GaussianBlur(cast, (0, 0), 0.006 * height)
    # The wide contact shadow is smooth, so a quarter of the resolution holds it.
    contact = cv2.resize(coverage, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    contact = cv2.resize(cv2.GaussianBlur(contact, (0, 0), 0.005 * height), (width, height))
    shadow = np.maximum(cast, contact)
    shadow *= np.float32(-0.75)
    shadow += 1
    return shadow
