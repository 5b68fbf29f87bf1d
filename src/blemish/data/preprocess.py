"""Preprocessing: from a decoded image to the network's input, and from an anomaly map back to the image's pixels.

It is the same numpy code for every runtime; its settings are stored in the model.
"""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blemish.data.mask_runs import MaskRuns
from blemish.errors import DataError
from blemish.messages import message
from blemish.opencv import cv2
from blemish.records import Record
from blemish.types import Image, Map, Mask

LARGEST_SIDE = 16384

Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
SIDES = f"whole numbers from 1 to {LARGEST_SIDE}"
Resize = Literal["squash", "fit"]


class Preprocess(Record):
    """Resizes and crops images, and maps anomaly maps back to them.

    **Padding is NaN**: `resize="fit"` fills the rest of the input with NaN in all channels, and so are ignored pixels.
    NaN means "not part of the image"; no score may come from there.
    """

    size: tuple[Side, Side] = Field(
        default=(256, 256), description=f"(height, width) after resizing, {SIDES}"
    )
    resize: Resize = Field(default="squash", description='"squash" or "fit"')
    """"squash" fills `size` exactly; "fit" keeps the aspect ratio and pads on both sides."""
    crop: tuple[Side, Side] | None = Field(default=None, description=f"(height, width), {SIDES}, or None")
    """Centre crop after resizing, as in the presets of some papers; None: no crop."""
    ignored: MaskRuns | None = Field(
        default=None, description="null, or an object with height, width and runs"
    )
    """Pixels of the network's input that do not count; they are NaN in it, as padding is."""

    @model_validator(mode="after")
    def _require_fitting_parts(self) -> Self:
        if self.ignored is not None and (self.ignored.height, self.ignored.width) != self.output_size:
            raise ValueError(message("ignored must have the size of the network's input"))
        if self.crop is not None and (self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise ValueError(
                message("crop {crop} must not be larger than size {size}", crop=self.crop, size=self.size)
            )
        return self

    @property
    def output_size(self) -> tuple[int, int]:
        """(h, w) of the network's input."""
        return self.size if self.crop is None else self.crop

    def ignoring(self, mask: Mask) -> Self:
        """The same preprocessing for which the marked pixels of an image (H, W) do not count.

        Raises:
            DataError: If nothing would be left.
        """
        marked = self.changed(ignored=None).place(mask)
        if marked.all():
            raise DataError("The mask of what is ignored covers the whole image. Mark less.")
        return self.changed(ignored=MaskRuns.of(marked) if marked.any() else None)

    def enlarged(self, factor: int) -> Self:
        """The same preprocessing to a size, and crop, of `factor` times the height and width, of whole images."""
        height, width = self.size
        crop = None if self.crop is None else (factor * self.crop[0], factor * self.crop[1])
        return self.changed(size=(factor * height, factor * width), crop=crop, ignored=None)

    def describe(self) -> str:
        """The size of the network's input, and how images are brought to it."""
        height, width = self.size
        text = message(
            "{height} × {width} pixels (height × width), {resize}",
            height=height,
            width=width,
            resize=self.resize,
        )
        if self.crop is not None:
            height, width = self.crop
            text = message(
                "{text}, the middle {height} × {width} kept", text=text, height=height, width=width
            )
        if self.ignored is None:
            return text
        share = sum(count for _, _, count in self.ignored.runs) / (height * width)
        return message("{text}, {share:.0%} ignored", text=text, share=share)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """The network's input, (3, h, w), RGB in [0, 1]; padding is NaN.

        8-bit and 16-bit versions of an image give the same values.
        """
        scaled = image.astype(np.float32)
        scaled /= np.iinfo(image.dtype).max
        top, left, height, width = self.content(image.shape[:2])
        content = resize_area_correct(scaled, (height, width))
        canvas = np.full((*self.size, 3), np.nan, np.float32)
        canvas[top : top + height, left : left + width] = content
        kept = np.ascontiguousarray(canvas[self._kept()].transpose(2, 0, 1))
        if self.ignored is not None:
            kept[:, self.ignored.to_mask()] = np.nan
        return kept

    def place(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pixels marked in an image (H, W) as pixels of the network's input (h, w)."""
        resized = self(np.repeat(marked[:, :, None], 3, axis=2).astype(np.uint8))[0]
        return np.asarray(resized > 0)  # padding is NaN, which is not above 0

    def restore(self, anomaly_map: Map, original_size: tuple[int, int]) -> Map:
        """The anomaly map resized to the image's `original_size` (H, W).

        Padding is cut away. Pixels outside the crop have no score and get the map's minimum.
        """
        if anomaly_map.shape != self.output_size:
            raise ValueError(
                message(
                    "anomaly_map must be {output_size}, got {shape}.",
                    output_size=self.output_size,
                    shape=anomaly_map.shape,
                )
            )
        full = np.asarray(anomaly_map, np.float32)
        if self.crop is not None:
            known = full[np.isfinite(full)]
            canvas = np.full(self.size, known.min() if known.size else np.nan, np.float32)
            canvas[self._kept()] = full
            full = canvas
        top, left, height, width = self.content(original_size)
        return resize_area_correct(full[top : top + height, left : left + width], original_size)

    def content(self, original_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Top, left, height and width of an image of `original_size` (H, W) within `size`."""
        if self.resize == "squash":
            return 0, 0, *self.size
        scale = min(self.size[0] / original_size[0], self.size[1] / original_size[1])
        height, width = (max(1, round(side * scale)) for side in original_size)
        return (self.size[0] - height) // 2, (self.size[1] - width) // 2, height, width

    def _kept(self) -> tuple[slice, slice]:
        """Rows and columns of the crop within `size`."""
        height, width = self.output_size
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return slice(top, top + height), slice(left, left + width)


def resize_area_correct(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize (H, W) or (H, W, 3) to `size`: area means along axes that shrink, bilinear along those that grow."""
    height, width = pixels.shape[:2]
    smaller = (min(width, size[1]), min(height, size[0]))
    shrunk = (
        cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA) if smaller != (width, height) else pixels
    )
    if smaller == (size[1], size[0]):
        return np.array(shrunk, np.float32)
    return np.asarray(cv2.resize(shrunk, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
