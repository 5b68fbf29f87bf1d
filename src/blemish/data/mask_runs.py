"""A mask as its horizontal runs, which JSON can hold."""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from blemish.messages import message
from blemish.records import Record
from blemish.types import Mask

LARGEST_SIDE = 65536
MOST_RUNS = 2**20

Side = f"a whole number from 1 to {LARGEST_SIDE}"


class MaskRuns(Record):
    """A mask (height, width)."""

    height: int = Field(ge=1, le=LARGEST_SIDE, description=Side)
    width: int = Field(ge=1, le=LARGEST_SIDE, description=Side)
    runs: tuple[tuple[int, int, int], ...] = Field(
        max_length=MOST_RUNS, description="a list of [row, first column, number of pixels]"
    )

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """The runs of a mask (H, W)."""
        height, width = mask.shape
        wide = np.zeros((height, width + 2), np.int8)
        wide[:, 1:-1] = mask
        steps = np.diff(wide, axis=1)
        rows, starts = np.nonzero(steps > 0)
        ends = np.nonzero(steps < 0)[1]
        return cls(
            height=height,
            width=width,
            runs=tuple(zip(rows.tolist(), starts.tolist(), (ends - starts).tolist(), strict=True)),
        )

    @model_validator(mode="after")
    def _require_inside(self) -> Self:
        for row, first, count in self.runs:
            if not (0 <= row < self.height and first >= 0 and 1 <= count <= self.width - first):
                raise ValueError(message("a run leaves the mask"))
        return self

    def to_mask(self) -> Mask:
        """The mask (height, width)."""
        mask = np.zeros((self.height, self.width), np.bool_)
        for row, first, count in self.runs:
            mask[row, first : first + count] = True
        return mask
