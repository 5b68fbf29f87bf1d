"""From a decoded picture to a network's input, and from its anomaly map back to the picture's pixels.

Plain numpy, run unchanged by every runtime, and stored as data in the model.
"""

from typing import Annotated, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blemish.records import Record
from blemish.types import Image, Map

LARGEST_SIDE = 16384

Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
SIDES = f"whole numbers from 1 to {LARGEST_SIDE}"
Resize = Literal["squash", "fit"]


class Preprocess(Record):
    """Resize and crop a picture; put an anomaly map back onto it.

    **Padding is NaN**: where `fit` leaves part of the input empty, the array holds NaN in all channels.
    NaN means "not part of the image"; no score may come from there.
    """

    size: tuple[Side, Side] = Field(
        default=(256, 256), description=f"(height, width) after resizing, {SIDES}"
    )
    resize: Resize = Field(default="squash", description='"squash" or "fit"')
    """"squash" fills `size` exactly; "fit" keeps the aspect ratio and pads on both sides."""
    crop: tuple[Side, Side] | None = Field(default=None, description=f"(height, width), {SIDES}, or None")
    """Cut from the centre after resizing, for presets of papers; None keeps everything."""

    @model_validator(mode="after")
    def _require_crop_within_size(self) -> Self:
        if self.crop is not None and (self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise ValueError(f"crop {self.crop} must not be larger than size {self.size}")
        return self

    @property
    def output_size(self) -> tuple[int, int]:
        """(h, w) of the arrays that this produces."""
        return self.size if self.crop is None else self.crop

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """The method's input, (3, h, w), RGB in [0, 1]; NaN where padded.

        8-bit and 16-bit versions of one picture give the same values.
        """
        scaled = image.astype(np.float32)
        scaled /= np.iinfo(image.dtype).max
        top, left, height, width = self._content(image.shape[:2])
        content = resize_area_correct(scaled, (height, width))
        canvas = np.full((*self.size, 3), np.nan, np.float32)
        canvas[top : top + height, left : left + width] = content
        return np.ascontiguousarray(canvas[self._kept()].transpose(2, 0, 1))

    def place(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where pixels marked in a picture (H, W) come to lie in the network's input (h, w)."""
        shown = self(np.repeat(marked[:, :, None], 3, axis=2).astype(np.uint8))[0]
        return np.asarray(shown > 0)  # padding, NaN, is not above 0

    def restore(self, anomaly_map: Map, original_size: tuple[int, int]) -> Map:
        """The anomaly map of a picture of `original_size` (H, W), at that size.

        Padding is cut away. What a crop left out has no score of its own and gets the map's minimum.
        """
        if anomaly_map.shape != self.output_size:
            raise ValueError(f"anomaly_map must be {self.output_size}, got {anomaly_map.shape}.")
        full = np.asarray(anomaly_map, np.float32)
        if self.crop is not None:
            known = full[np.isfinite(full)]
            canvas = np.full(self.size, known.min() if known.size else np.nan, np.float32)
            canvas[self._kept()] = full
            full = canvas
        top, left, height, width = self._content(original_size)
        return resize_area_correct(full[top : top + height, left : left + width], original_size)

    def _content(self, original_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Top, left, height and width of the picture within `size`."""
        if self.resize == "squash":
            return 0, 0, *self.size
        scale = min(self.size[0] / original_size[0], self.size[1] / original_size[1])
        height, width = (max(1, round(side * scale)) for side in original_size)
        return (self.size[0] - height) // 2, (self.size[1] - width) // 2, height, width

    def _kept(self) -> tuple[slice, slice]:
        """Rows and columns of `size` that the crop keeps."""
        height, width = self.output_size
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return slice(top, top + height), slice(left, left + width)


def resize_area_correct(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize (H, W) or (H, W, 3) to `size`: area means along axes that shrink, bilinear where they grow."""
    height, width = pixels.shape[:2]
    smaller = (min(width, size[1]), min(height, size[0]))
    shrunk = (
        cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA) if smaller != (width, height) else pixels
    )
    if smaller == (size[1], size[0]):
        return np.array(shrunk, np.float32)
    return np.asarray(cv2.resize(shrunk, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
