"""Chooses the size of the network's input from the sizes of the images, and says what a model can see at that size."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from blemish.data.images import image_size
from blemish.data.preprocess import LARGEST_SIDE, Preprocess, Resize
from blemish.errors import DataError
from blemish.messages import message
from blemish.records import Record
from blemish.types import Sample

PIXELS = 256 * 256
"""Default number of pixels of the input, that of most published results."""
STEP = 32
"""Sides are multiples of it: the largest stride of the residual networks, and of most transformers' patches."""
SAMPLED = 64
"""Maximum number of images whose headers are read."""
FINEST = 8
"""Finer cells than this, in pixels of the input, show no smaller defects, because the map is blurred as much."""
CELLS = 1.5
"""Side in cells of a defect that can be expected to be seen; benchmarks/small_defects.py finds nine of ten."""

Length = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Resolution(Record):
    """What a model can see of its images."""

    image_size: tuple[Count, Count] = Field(description="(height, width), two whole numbers above 0")
    """Size of a typical training image in pixels; the lengths below are in pixels of this image."""
    cell: tuple[Length, Length] = Field(description="(height, width), two numbers above 0")
    """The part of the image that one value of the map covers, before the map is enlarged to the image's size."""
    smallest_defect: Length = Field(description="a number above 0")
    """Side of the smallest defect that can be expected to be seen."""

    @classmethod
    def of(cls, size: tuple[int, int], preprocess: Preprocess, cell: tuple[float, float]) -> Self:
        """The resolution for images of `size` (H, W); `cell` is (height, width) in pixels of the input."""
        _, _, *content = preprocess.content(size)
        pixel = [side / placed for side, placed in zip(size, content, strict=True)]
        covered = (cell[0] * pixel[0], cell[1] * pixel[1])
        coarsest = max(*covered, *(FINEST * side for side in pixel))
        return cls(image_size=size, cell=covered, smallest_defect=CELLS * coarsest)

    def describe(self) -> str:
        """The lengths as a clause."""
        height, width = (f"{side:.0f}" if side >= 10 else f"{round(side, 1):g}" for side in self.cell)
        return message(
            "one cell covers {height} × {width} pixels; defects from about {smallest} "
            "pixels can be expected to be seen",
            height=height,
            width=width,
            smallest=math.ceil(self.smallest_defect),
        )


def auto_preprocess(
    images: Sequence[Sample] | Sequence[Path] | Sequence[str],
    *,
    pixels: int = PIXELS,
    resize: Resize = "squash",
) -> Preprocess:
    """Preprocessing to about `pixels` pixels in the images' own aspect ratio, with sides that are multiples of 32.

    The aspect ratio is the median of at most 64 images, of which only the headers are decoded; square if none can be.

    Raises:
        ValueError: If `pixels` is not from 1 to 16384².
    """
    if not 1 <= pixels <= LARGEST_SIDE**2:
        raise ValueError(
            message(
                "pixels must be from 1 to {largest_side}², got {pixels}.",
                largest_side=LARGEST_SIDE,
                pixels=pixels,
            )
        )
    height, width = typical_size(images) or (1, 1)
    side = math.sqrt(pixels * height / width)
    return Preprocess(size=(_stepped(side), _stepped(pixels / side)), resize=resize)


def typical_size(images: Sequence[Sample] | Sequence[Path] | Sequence[str]) -> tuple[int, int] | None:
    """(H, W) of the image with the median aspect ratio among at most 64 evenly spaced ones; None if none is readable.

    Of images with the same aspect ratio it is the one of median area.
    """
    count = min(len(images), SAMPLED)
    chosen = [images[index * len(images) // count] for index in range(count)]
    sizes = []
    for image in chosen:
        try:
            sizes.append(image_size(image.path if isinstance(image, Sample) else image))
        except DataError:  # named, or skipped, when the images are read
            continue
    sizes.sort(key=lambda size: (size[0] / size[1], size[0] * size[1]))
    return sizes[len(sizes) // 2] if sizes else None


def _stepped(side: float) -> int:
    return min(LARGEST_SIDE, STEP * max(1, round(side / STEP)))
