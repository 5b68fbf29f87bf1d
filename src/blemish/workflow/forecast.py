"""What is known of a model before it is fitted: what it will see, and how large it will be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from blemish.data.input_size import Resolution, typical_size
from blemish.data.preprocess import Preprocess
from blemish.messages import lines, message
from blemish.types import Sample

if TYPE_CHECKING:
    from blemish.methods.base import Method

LARGE = 200_000_000
"""Smallest number of learned bytes that is worth a line."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The model that a fit to these images will give."""

    preprocess: Preprocess
    resolution: Resolution | None
    """None if the header of no image can be read."""
    learned_bytes: int
    """About the number of bytes of what is learned and grows with the input."""

    @classmethod
    def of(cls, method: "Method", images: Sequence[Sample], preprocess: Preprocess) -> Self:
        """The forecast for a method that has not learned."""
        size, input_size = typical_size(images), preprocess.output_size
        return cls(
            preprocess,
            Resolution.of(size, preprocess, method.cell_size(input_size)) if size else None,
            method.learned_bytes(input_size, len(images)),
        )

    def __str__(self) -> str:
        """A line on what will be seen and, if it is large, one on the size of the model."""
        texts = []
        height, width = self.preprocess.output_size
        if self.resolution is not None:
            image_height, image_width = self.resolution.image_size
            texts.append(
                message(
                    "Images {image_height} × {image_width}, input {height} × {width} pixels (height × width): "
                    "{seen}.",
                    image_height=image_height,
                    image_width=image_width,
                    height=height,
                    width=width,
                    seen=self.resolution.describe(),
                )
            )
        if self.learned_bytes >= LARGE:
            texts.append(
                message(
                    "The model will take about {megabytes:.0f} MB of memory and disk at this input; "
                    "a smaller --pixels or --image-size makes it smaller.",
                    megabytes=self.learned_bytes / 1e6,
                )
            )
        return lines(texts)
