"""Draws an inspection for people: verdict, heat map and the peak enlarged, in one image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from blemish.inspection.heatmap import draw_marker, overlay
from blemish.inspection.result import COLOURS, Inspection
from blemish.inspection.thumbnail import eight_bit, shrink_image, shrink_map, shrink_mask
from blemish.messages import in_language
from blemish.opencv import cv2

Pixels = NDArray[np.uint8]
Kind = TypeVar("Kind", bound=np.generic)

LARGEST, SMALLEST = 1600, 480
"""Longest side of the heat map in the annotated image, in pixels; it is shrunk or enlarged to it."""
NARROWEST = 320
"""Smallest width of the annotated image without its border, in pixels, so that the verdict fits."""
CONTEXT = 48
"""Smallest side of the part of the image that is enlarged, in pixels."""
GROUND, INK, SOFT = (255, 255, 255), (27, 35, 48), (95, 105, 120)
GAP = 12


def draw_annotated(inspection: Inspection) -> Pixels:
    """The annotated image, (H, W, 3) RGB: verdict, score and threshold above the heat map.

    Beside the heat map, or below it if it is wide, the place of the highest anomaly is enlarged, without colours and
    with them. Large images are shrunk; the enlarged part has the image's own pixels.
    """
    main = _heat_map(inspection)
    is_wide = main.shape[1] > 1.6 * main.shape[0]
    side = int(np.clip((main.shape[0] - GAP) // 2, 160, 480)) if not is_wide else 320
    zooms = [_fit(zoom, side) for zoom in zoom_peak(inspection)]
    parts = [main, _joined(zooms, axis=1 if is_wide else 0)]
    body = _joined(parts, axis=0 if is_wide else 1)
    head = _headline(inspection, max(NARROWEST, body.shape[1]))
    return cv2.copyMakeBorder(
        _joined([head, body], axis=0), GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=GROUND
    ).astype(np.uint8)


def zoom_peak(inspection: Inspection) -> tuple[Pixels, Pixels]:
    """The surroundings of the highest anomaly, plain and under its colours, each (H, W, 3), enlarged without blur."""
    rows, columns = _surroundings(inspection)
    plain = eight_bit(inspection.image[rows, columns])
    relative = inspection.calibration.relative_map(inspection.anomaly_map[rows, columns])
    factor = max(1, -(-320 // max(plain.shape[:2])))
    mask = inspection.defect_mask[rows, columns]
    plain = _enlarged(plain, factor)
    return plain, overlay(plain, _enlarged(relative, factor), defect_mask=_enlarged(mask, factor))


def _surroundings(inspection: Inspection) -> tuple[slice, slice]:
    """Rows and columns of a square around the highest anomaly and its region, cut at the image's edges."""
    height, width = inspection.anomaly_map.shape
    if inspection.regions:
        region = inspection.regions[0]
        y, x, extent = region.peak_y, region.peak_x, max(region.width, region.height)
    else:
        y, x = divmod(int(inspection.anomaly_map.argmax()), width)
        extent = 0
    side = min(max(CONTEXT, 2 * extent, max(height, width) // 16), max(height, width) // 2 + 1)
    top = int(np.clip(y - side // 2, 0, max(0, height - side)))
    left = int(np.clip(x - side // 2, 0, max(0, width - side)))
    return slice(top, top + side), slice(left, left + side)


def _heat_map(inspection: Inspection) -> Pixels:
    """The image under its colours, with a marker around the highest region."""
    small = shrink_image(eight_bit(inspection.image), LARGEST)
    relative = inspection.calibration.relative_map(shrink_map(inspection.anomaly_map, small.shape[:2]))
    mask = shrink_mask(inspection.defect_mask, LARGEST)
    factor = max(1, SMALLEST // max(small.shape[:2]))
    painted = overlay(
        _enlarged(small, factor),
        _enlarged(relative, factor),
        defect_mask=_enlarged(mask, factor),
    )
    for region in inspection.regions[:1]:
        scale = painted.shape[1] / inspection.anomaly_map.shape[1]
        draw_marker(painted, region.x * scale, region.y * scale, region.width * scale, region.height * scale)
    return painted


def _headline(inspection: Inspection, width: int) -> Pixels:
    """Verdict, score and threshold, and the reason if verdict and regions differ, as lines of text."""
    size = int(np.clip(width // 60, 16, 28))
    large, normal = ImageFont.load_default(round(1.8 * size)), ImageFont.load_default(size)
    sign = ">" if inspection.score > inspection.threshold else "<="
    facts = f"score {inspection.score:.4g} {sign} threshold {inspection.threshold:.4g}"
    with in_language("en"):  # Pillow's own font has no Chinese
        reason = inspection.reason or ""
    lines = textwrap.wrap(reason, max(20, 2 * width // size))
    indent = round(large.getlength(inspection.verdict)) + size
    if indent + normal.getlength(facts) > width:
        lines, facts = [facts, *lines], ""
    row = round(1.3 * size)
    canvas = PillowImage.new("RGB", (width, 2 * size + row * len(lines) + size // 2), GROUND)
    draw = ImageDraw.Draw(canvas)
    colour = COLOURS[inspection.verdict]
    draw.text((1, 0), inspection.verdict, colour, large, stroke_width=1, stroke_fill=colour)
    draw.text((indent, round(0.7 * size)), facts, INK, normal)
    for number, line in enumerate(lines):
        draw.text((1, round(2.1 * size) + row * number), line, SOFT, normal)
    return np.asarray(canvas, np.uint8)


def _fit(image: Pixels, side: int) -> Pixels:
    """The image scaled until its longest side is `side`."""
    factor = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def _enlarged(pixels: NDArray[Kind], factor: int) -> NDArray[Kind]:
    """Every pixel repeated, as squares."""
    return pixels.repeat(factor, 0).repeat(factor, 1)


def _joined(images: Sequence[Pixels], axis: int) -> Pixels:
    """The images beside (axis 1) or below each other, with gaps, aligned at the top left."""
    other = 1 - axis
    length = max(image.shape[other] for image in images)
    parts = []
    for number, image in enumerate(images):
        below = (length - image.shape[other], GAP if number < len(images) - 1 else 0)
        bottom, right = below if axis == 1 else below[::-1]
        parts.append(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=GROUND))
    return np.concatenate(parts, axis=axis).astype(np.uint8)
