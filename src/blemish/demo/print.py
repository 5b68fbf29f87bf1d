"""The ink of the synthetic part: a painted type plate and a scale, drawn once per image size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

LABEL = (272, 92, 492, 212)
"""The painted field with the type text, in design units: left, top, right, bottom."""
BLOCKS = {
    "name": (304, 96, 488, 137),
    "rating": (290, 143, 436, 179),
    "bars": (290, 182, 430, 211),
    "matrix": (440, 145, 486, 191),
    "scale": (276, 326, 511, 372),
}
"""The blocks of the print that can be defective, as boxes in design units."""

PAINT = (226, 224, 214)
_INK = (34, 36, 42)
_ACCENT = (196, 84, 36)
_BAR_WIDTHS = "3112231121321113221121312311212231121132"
"""Alternating bars and spaces of the code strip, in modules."""

Box = tuple[float, float, float, float]


class _Pen:
    """Draws in design units into an RGBA image of `scale` pixels per unit."""

    def __init__(self, height: int, width: int, scale: float, origin: tuple[float, float]) -> None:
        self.image = PillowImage.new("RGBA", (width, height), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)
        self.scale, self.origin = scale, origin

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        return self.origin[0] + x * self.scale, self.origin[1] + y * self.scale

    def box(self, box: Box, fill: tuple[int, int, int], radius: float = 0.0) -> None:
        left, top = self.to_pixels(box[0], box[1])
        right, bottom = self.to_pixels(box[2], box[3])
        # Pillow includes the last row and column.
        self.draw.rounded_rectangle(
            (left, top, max(left, right - 1), max(top, bottom - 1)), radius * self.scale, fill=fill
        )

    def text(
        self, x: float, y: float, text: str, size: float, fill: tuple[int, int, int], bold: float = 0.0
    ) -> None:
        font = ImageFont.load_default(size=max(4.0, size * self.scale))
        self.draw.text(
            self.to_pixels(x, y),
            text,
            font=font,
            fill=fill,
            anchor="ls",
            stroke_width=round(bold * self.scale),
            stroke_fill=fill,
        )

    def polygon(self, points: NDArray[np.float64], fill: tuple[int, int, int]) -> None:
        self.draw.polygon([self.to_pixels(float(x), float(y)) for x, y in points], fill=fill)


def draw_ink(height: int, width: int, scale: float, origin: tuple[float, float]) -> NDArray[np.uint8]:
    """The print alone, (height, width, 4) RGBA, transparent on bare metal."""
    pen = _Pen(height, width, scale, origin)
    _draw_label(pen)
    _draw_scale(pen)
    return np.asarray(pen.image, np.uint8)


def _draw_label(pen: _Pen) -> None:
    left, top, right, bottom = LABEL
    pen.box(LABEL, PAINT, radius=5)
    pen.box((left + 8, top + 9, left + 14, bottom - 9), _ACCENT)
    _draw_logo(pen, left + 36, top + 27)
    pen.text(left + 58, top + 27, "KORVENTA", 20, _INK, bold=0.5)
    pen.text(left + 58.5, top + 40, "LINEAR  DRIVES", 9.5, _ACCENT)
    pen.box((left + 22, top + 48, right - 9, top + 49.2), _INK)
    for row, (name, value) in enumerate(
        (("TYPE", "LD-640 / 2C"), ("RATED", "24 V  3.5 A"), ("CLASS", "IP 54  F"))
    ):
        baseline = top + 61 + 12 * row
        pen.text(left + 22, baseline, name, 8.5, _INK)
        pen.text(left + 58, baseline, value, 10, _INK, bold=0.25)
    _draw_bars(pen, left + 22, bottom - 27, 132, 13)
    pen.text(left + 24, bottom - 5.5, "0815 - 2040 - 64 C", 7.5, _INK)
    _draw_matrix(pen, right - 49, top + 56, 40)


def _draw_logo(pen: _Pen, x: float, y: float) -> None:
    angles = np.arange(6) * np.pi / 3
    hexagon = np.stack([np.cos(angles), np.sin(angles)], 1)
    center = np.array([x, y - 1.0])
    pen.polygon(center + 13 * hexagon, _INK)
    pen.polygon(center + 9 * hexagon, PAINT)
    pen.polygon(center + 5.5 * hexagon, _ACCENT)


def _draw_bars(pen: _Pen, x: float, y: float, width: float, height: float) -> None:
    module = width / sum(map(int, _BAR_WIDTHS))
    for index, modules in enumerate(map(int, _BAR_WIDTHS)):
        if index % 2 == 0:
            pen.box((x, y, x + modules * module, y + height), _INK)
        x += modules * module


def _draw_matrix(pen: _Pen, x: float, y: float, side: float) -> None:
    """A square code: solid left and bottom borders, dotted right and top borders, random cells inside."""
    cells = np.random.default_rng(7).random((14, 14)) < 0.5
    cells[:, 0] = cells[-1] = True
    cells[0] = np.arange(14) % 2 == 0
    cells[1:, -1] = np.arange(13) % 2 == 0
    step = side / 14
    for row, column in np.argwhere(cells):
        pen.box((x + column * step, y + row * step, x + (column + 1) * step, y + (row + 1) * step), _INK)


def _draw_scale(pen: _Pen) -> None:
    left, top, right, bottom = 282, 318, 482, 368
    pen.box((left, bottom - 1.2, right, bottom), _INK)
    for tick in range(41):
        x = left + tick * (right - left) / 40
        length = 20 if tick % 10 == 0 else 14 if tick % 5 == 0 else 8
        pen.box((x - 0.6, bottom - length, x + 0.6, bottom), _INK)
        if tick % 10 == 0:
            pen.text(x - 3.2 * len(str(tick * 5)), top + 25, str(tick * 5), 12, _INK, bold=0.2)
    pen.text(right + 9, bottom - 1, "mm", 9.5, _INK)
