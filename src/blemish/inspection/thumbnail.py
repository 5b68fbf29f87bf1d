"""Thumbnails of inspected images, for reports and notebooks."""

import base64
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import encode
from blemish.inspection.heatmap import overlay
from blemish.messages import message
from blemish.opencv import cv2
from blemish.types import Image, Map, Mask


class Thumbnail(NamedTuple):
    """An inspected image at reduced size (H, W), the same for all arrays."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    overlay: NDArray[np.uint8]
    """(H, W, 3) RGB, from `heatmap.overlay`."""
    defect_mask: Mask


def make_thumbnail(image: Image, relative_map: Map, defect_mask: Mask, longest: int) -> Thumbnail:
    """Shrink the arrays, then draw the overlay, so that outlines stay sharp.

    Args:
        image: (H, W, 3).
        relative_map: (H, W): 0 typical of normal pixels, 1 the pixel threshold.
        defect_mask: (H, W).
        longest: Maximum length of the result's sides in pixels; smaller images are not resized.
    """
    small = shrink_image(eight_bit(image), longest)
    small_map = shrink_map(relative_map, small.shape[:2])
    small_mask = shrink_mask(defect_mask, longest)
    return Thumbnail(small, overlay(small, small_map, defect_mask=small_mask), small_mask)


def eight_bit(image: Image) -> NDArray[np.uint8]:
    """The image in 8 bits, for display."""
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else np.asarray(image, np.uint8)


def shrink_map(anomaly_map: Map, size: tuple[int, ...]) -> Map:
    """The map shrunk to (H, W); each pixel gets the largest value of its block, so that small peaks are kept."""
    factor = min(anomaly_map.shape[0] // size[0], anomaly_map.shape[1] // size[1])
    if factor > 1:
        anomaly_map = np.asarray(cv2.dilate(anomaly_map, np.ones((factor, factor), np.uint8)), np.float32)
    return np.asarray(cv2.resize(anomaly_map, size[1::-1], interpolation=cv2.INTER_AREA), np.float32)


def shrink_image(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The image shrunk until its longest side is at most `longest` pixels."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def shrink_mask(mask: Mask, longest: int) -> Mask:
    """The mask at the thumbnail's size; a pixel is True if a fifth of it is, so that thin scratches are kept."""
    return shrink_image(mask.astype(np.uint8) * np.uint8(255), longest) > 50


def data_uri(image: NDArray[np.uint8]) -> str:
    """The RGB image (H, W, 3) as a data URI for HTML.

    Raises:
        ValueError: If WebP cannot hold it.
    """
    data = encode(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 85])
    if data is None:
        raise ValueError(message("An image of {shape} cannot be written as WebP.", shape=image.shape))
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
