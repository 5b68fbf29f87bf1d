"""The geometry of the synthetic part, which is the same for every part of the product.

It is drawn from signed distances in design units (640 by 480 cover the image) on a canvas that covers only the
plate at twice the image's resolution, so that edges are smooth at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from blemish.demo.print import draw_ink
from blemish.opencv import cv2

Plane = NDArray[np.float32]

SUPERSAMPLING = 2
DESIGN = (480.0, 640.0)
"""Height and width of the design, in design units."""

WINDOW = (44.0, 52.0, 596.0, 428.0)
"""The canvas in design units: left, top, right, bottom."""
PLATE = (320.0, 240.0, 272.0, 184.0, 30.0)
"""Centre x, y, half width, half height, corner radius."""
BORE = (168.0, 240.0, 44.0, 72.0)
"""Centre x, y, radius of the hole, radius of the turned face around it."""
CORNER_HOLES = ((88.0, 96.0), (552.0, 96.0), (88.0, 384.0), (552.0, 384.0))
TAPPED_HOLES = ((168.0, 134.0), (168.0, 346.0))
SLOT = (372.0, 272.0, 84.0, 16.0)
"""Centre x, y, half length, radius of the milled pocket."""
KNURL = (540.0, 240.0, 24.0, 92.0)
"""Centre x, y, half width, half height of the knurled grip."""

FEATURES = ("corner_0", "corner_1", "corner_2", "corner_3", "tapped_0", "tapped_1", "slot")
"""Features that may be missing on a part: `CORNER_HOLES` and `TAPPED_HOLES` by index, and the slot."""


@dataclass(frozen=True)
class Blueprint:
    """The layers shared by all parts, each (H, W) on the supersampled canvas."""

    x: Plane
    """Design units, as `y`."""
    y: Plane
    coverage: Plane
    """1 where there is material, 0 outside the plate and in drilled holes."""
    slope_x: Plane
    """Slope of the surface towards the right, as `slope_y` downwards; 0 where flat."""
    slope_y: Plane
    steepness: Plane
    """Length of the normal (-slope_x, -slope_y, 1)."""
    openness: Plane
    """Share of the ambient light that arrives, in [0, 1]: lower in pockets and beside walls."""
    brushed: Plane
    """Strength of the linear brushing, in [0, 1]: 0 on turned and milled faces."""
    turned: NDArray[np.intp]
    """Flat indices of the pixels with turning marks (concentric around a hole)."""
    turned_radius: Plane
    """(T,) distance from the hole's centre, design units, of the pixels in `turned`."""
    turned_angle: Plane
    """(T,) polar angle around the hole's centre, radians."""
    milled: NDArray[np.intp]
    """Flat indices of the pixels on the slot's floor."""
    ink: NDArray[np.uint8]
    """(H, W, 4) RGBA of the print."""
    scale: float
    """Canvas pixels per design unit."""
    corner: tuple[float, float]
    """Position (x, y) of the canvas in the supersampled image."""


class _Builder:
    """Adds heights, holes and textures of the features one by one."""

    def __init__(self, x: Plane, y: Plane, scale: float) -> None:
        self.x, self.y, self.scale = x, y, scale
        self.edge = _rounded_box(x, y, *PLATE)
        self.coverage = self.inside(self.edge)
        self.height = -np.clip(self.edge + 4.0, 0.0, 4.0)
        self.brushed = np.ones_like(x)
        self.turned: list[tuple[NDArray[np.intp], Plane, Plane]] = []
        self.milled = np.empty(0, np.intp)

    def inside(self, distance: Plane) -> Plane:
        """Anti-aliased coverage of the region with negative distance."""
        return np.asarray(np.clip(0.5 - distance * self.scale, 0.0, 1.0), np.float32)

    def drill(self, x: float, y: float, radius: float, chamfer: float, *, through: bool) -> None:
        """A hole with a conical chamfer around it; a blind hole has a dark floor."""
        distance = np.hypot(self.x - x, self.y - y)
        depth = np.clip(radius + chamfer - distance, 0.0, chamfer) * 0.9
        if through:
            self.coverage *= 1.0 - self.inside(distance - radius)
        else:
            # Steep steps of a thread below the chamfer, then the floor of the drill.
            depth += np.clip(radius - distance, 0.0, 2.5) * 2.4
        self.height -= depth
        self.turn(distance, radius if through else 0.0, radius + chamfer, x, y)

    def face(self, x: float, y: float, radius: float) -> None:
        """A shallow turned face around a hole."""
        distance = np.hypot(self.x - x, self.y - y)
        self.height -= np.clip(radius - distance, 0.0, 1.6) * 0.8
        self.turn(distance, 0.0, radius, x, y)

    def turn(self, distance: Plane, inner: float, outer: float, x: float, y: float) -> None:
        self.brushed *= 1.0 - self.inside(distance - outer)
        where = np.flatnonzero((distance < outer) & (distance > inner))
        angle = np.arctan2(self.y.flat[where] - y, self.x.flat[where] - x)
        self.turned.append((where, distance.flat[where].astype(np.float32), angle.astype(np.float32)))

    def mill(self, x: float, y: float, half_length: float, radius: float) -> None:
        """A pocket with a flat floor and steep walls."""
        distance = np.hypot(np.maximum(np.abs(self.x - x) - half_length + radius, 0.0), self.y - y) - radius
        self.height -= np.clip(-distance, 0.0, 1.5) * 0.6 + np.clip(-distance - 1.5, 0.0, 2.0) * 3.0
        self.brushed *= 1.0 - self.inside(distance)
        self.milled = np.flatnonzero(distance < -2.0)

    def knurl(self, x: float, y: float, half_width: float, half_height: float) -> None:
        """A field of small pyramids: two crossed sets of V-grooves."""
        distance = _rounded_box(self.x, self.y, x, y, half_width, half_height, 4.0)
        pitch = 8.0
        along, across = (self.x - x + self.y - y) / pitch, (self.x - x - self.y + y) / pitch
        grooves = np.minimum(np.abs(along - np.round(along)), np.abs(across - np.round(across)))
        field = self.inside(distance)
        self.height += field * (np.minimum(grooves, 0.34) * pitch * 0.75 - 1.0)
        self.brushed *= 1.0 - 0.7 * field


@lru_cache(maxsize=4)
def draw_blueprint(size: tuple[int, int], missing: str = "") -> Blueprint:
    """The part for images of `size` (height, width) pixels, without the feature called `missing`."""
    scale = SUPERSAMPLING * min(size[0] / DESIGN[0], size[1] / DESIGN[1])
    left, top, right, bottom = WINDOW
    height, width = round((bottom - top) * scale), round((right - left) * scale)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x + 0.5) / np.float32(scale) + np.float32(left), (y + 0.5) / np.float32(scale) + np.float32(top)
    builder = _machined(_Builder(x, y, scale), missing)
    ink = draw_ink(height, width, scale, (-left * scale, -top * scale))
    surface = cv2.GaussianBlur(builder.height, (0, 0), 0.35 * scale)
    shaded = np.clip(
        (builder.height - cv2.GaussianBlur(builder.height, (0, 0), 4.0 * scale)) * 0.10, -0.5, 0.0
    )
    slope_x = cv2.Scharr(surface, cv2.CV_32F, 1, 0, scale=scale / 32)
    slope_y = cv2.Scharr(surface, cv2.CV_32F, 0, 1, scale=scale / 32)
    return Blueprint(
        x=x,
        y=y,
        coverage=builder.coverage,
        slope_x=slope_x,
        slope_y=slope_y,
        steepness=np.sqrt(1 + slope_x * slope_x + slope_y * slope_y),
        openness=np.clip((1.0 + shaded) * np.exp(np.minimum(builder.height + 4.0, 0.0) * 0.30), 0.0, 1.0),
        brushed=builder.brushed,
        turned=np.concatenate([where for where, _, _ in builder.turned]),
        turned_radius=np.concatenate([radius for _, radius, _ in builder.turned]),
        turned_angle=np.concatenate([angle for _, _, angle in builder.turned]),
        milled=builder.milled,
        ink=ink,
        scale=scale,
        corner=(
            SUPERSAMPLING * size[1] / 2 + (left - DESIGN[1] / 2) * scale,
            SUPERSAMPLING * size[0] / 2 + (top - DESIGN[0] / 2) * scale,
        ),
    )


def _machined(builder: _Builder, missing: str) -> _Builder:
    """The blank plate with all features but the one called `missing`."""
    builder.face(BORE[0], BORE[1], BORE[3])
    builder.drill(BORE[0], BORE[1], BORE[2], 5.0, through=True)
    for index, hole in enumerate(CORNER_HOLES):
        if missing != f"corner_{index}":
            builder.drill(*hole, 9.5, 8.5, through=True)
    for index, hole in enumerate(TAPPED_HOLES):
        if missing != f"tapped_{index}":
            builder.drill(*hole, 7.0, 2.5, through=False)
    if missing != "slot":
        builder.mill(*SLOT)
    builder.knurl(*KNURL)
    return builder


def _rounded_box(
    x: Plane, y: Plane, center_x: float, center_y: float, half_width: float, half_height: float, radius: float
) -> Plane:
    """Signed distance to a rectangle with rounded corners, negative inside."""
    beyond_x = np.abs(x - center_x) - half_width + radius
    beyond_y = np.abs(y - center_y) - half_height + radius
    outside = np.hypot(np.maximum(beyond_x, 0.0), np.maximum(beyond_y, 0.0))
    return np.asarray(outside + np.minimum(np.maximum(beyond_x, beyond_y), 0.0) - radius, np.float32)
