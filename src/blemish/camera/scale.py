"""From pixels to millimetres on the plane of the part, by a pixel pitch or by points whose places are known."""

from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from blemish.errors import DataError
from blemish.messages import message
from blemish.opencv import cv2
from blemish.records import UserRecord
from blemish.types import Image

Floats = NDArray[np.float64]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
KnownPoint = tuple[Coordinate, Coordinate, Coordinate, Coordinate]

LEAST_SPREAD = 1e-3
"""Smallest ratio of the two extents of known points, with any one of them left out."""
LEAST_DETERMINANT = 1e-12
"""Smallest determinant of a homography from pixels to millimetres."""


class Scale(UserRecord):
    """Millimetres per pixel: the same everywhere, or by a homography, which also undoes a slanted view."""

    mm_per_pixel: float | None = Field(default=None, gt=0, le=1e4, description="a number above 0")
    points: tuple[KnownPoint, ...] = Field(
        default=(), max_length=10_000, description="a list of at least four [x, y in pixels, x, y in mm]"
    )
    """Instead of `mm_per_pixel`: places in the image and on the part."""
    uncertainty: float = Field(default=0.005, ge=0, lt=1, description="a number from 0 to below 1")
    """Relative standard uncertainty of lengths."""
    edge_px: float = Field(default=0.5, ge=0, le=100, description="a number from 0 to 100")
    """Standard uncertainty of the place of a region's border, in pixels."""

    @model_validator(mode="after")
    def _require_scale(self) -> Self:
        if (self.mm_per_pixel is None) == (not self.points):
            raise ValueError(message("needs either mm_per_pixel or points"))
        if self.points and (
            len(self.points) < 4 or _lie_on_a_line(self._pixels) or _lie_on_a_line(self._places)
        ):
            raise ValueError(
                message("points must be at least four, and without any one of them lie on no line")
            )
        if self.points and not self._fits_a_view():
            raise ValueError(message("points do not fit: no view of a plane shows them so"))
        return self

    @classmethod
    def from_checkerboard(cls, image: Image, corners: tuple[int, int], square_mm: float) -> Self:
        """The scale of an image (H, W, 3) of a checkerboard that lies where the parts do.

        Args:
            image: The image.
            corners: Inner corners in a row and in a column of the board.
            square_mm: Side of a square.

        Raises:
            DataError: If the board is not found.
        """
        eight_bit = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
        grey = cv2.cvtColor(eight_bit, cv2.COLOR_RGB2GRAY)
        found, places = cv2.findChessboardCornersSB(grey, corners, flags=cv2.CALIB_CB_ACCURACY)
        if not found:
            raise DataError(
                "There is no checkerboard with {columns} × {rows} inner corners in the image. Count the corners "
                "between the squares, not the squares, and show the whole board, evenly lit.",
                columns=corners[0],
                rows=corners[1],
            )
        pixels = np.asarray(places, np.float64).reshape(-1, 2)
        columns, rows = np.meshgrid(np.arange(corners[0]), np.arange(corners[1]))
        known = np.column_stack([pixels, square_mm * np.column_stack([columns.ravel(), rows.ravel()])])
        return cls(points=tuple(tuple(round(float(value), 4) for value in row) for row in known))  # type: ignore[misc]

    def to_mm(self, points: ArrayLike) -> Floats:
        """Places on the part in mm, (n, 2), of places in the image, pixel centres (x, y), (n, 2)."""
        pixels = np.asarray(points, np.float64).reshape(-1, 2)
        if self.mm_per_pixel is not None:
            return pixels * self.mm_per_pixel
        mapped = np.column_stack([pixels, np.ones(len(pixels))]) @ self._homography.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:])

    def area_per_pixel(self, points: ArrayLike) -> Floats:
        """Area in mm² of a pixel at each of the places (n, 2): the determinant of the mapping's derivative."""
        pixels = np.asarray(points, np.float64).reshape(-1, 2)
        if self.mm_per_pixel is not None:
            return np.full(len(pixels), self.mm_per_pixel**2)
        depth = np.column_stack([pixels, np.ones(len(pixels))]) @ self._homography[2]
        return np.asarray(np.abs(np.linalg.det(self._homography) / depth**3))

    @property
    def border_px(self) -> float:
        """Standard uncertainty of the place of a border in pixels, with the residual of the known points."""
        if not self.points:
            return self.edge_px
        error = np.linalg.norm(self.to_mm(self._pixels) - self._places, axis=1)
        residual = error / np.sqrt(self.area_per_pixel(self._pixels))
        free = max(1, 2 * len(self.points) - 8)  # a homography has eight parameters
        return float(np.hypot(self.edge_px, np.sqrt((residual**2).sum() / free)))

    def require_plane(self, size: tuple[int, int]) -> None:
        """Check that images of `size` (H, W) show the plane everywhere, not its horizon.

        Raises:
            DataError: If they do not.
        """
        if self.points:
            corners = np.array([[x, y, 1] for x in (0, size[1] - 1) for y in (0, size[0] - 1)], np.float64)
            depth = corners @ self._homography[2]
            if not ((depth > 0).all() or (depth < 0).all()):
                raise DataError(
                    "By the points of the scale, images of {height} × {width} pixels (height × width) would show the "
                    "horizon of the part's plane. Correct the points, which must be of images of this size.",
                    height=size[0],
                    width=size[1],
                )

    @property
    def _pixels(self) -> Floats:
        return np.asarray(self.points, np.float64).reshape(-1, 4)[:, :2]

    @property
    def _places(self) -> Floats:
        return np.asarray(self.points, np.float64).reshape(-1, 4)[:, 2:]

    @property
    def _homography(self) -> Floats:
        homography = _homography_of(self.points)
        if homography is None:  # the points were checked
            raise AssertionError
        return homography

    def _fits_a_view(self) -> bool:
        """Whether a homography was found and all known points lie on one side of its horizon."""
        found = _homography_of(self.points)
        if found is None or not np.isfinite(found).all() or abs(np.linalg.det(found)) < LEAST_DETERMINANT:
            return False
        depth = np.column_stack([self._pixels, np.ones(len(self.points))]) @ found[2]
        return bool((depth > 0).all() or (depth < 0).all())


@lru_cache(maxsize=16)
def _homography_of(points: tuple[KnownPoint, ...]) -> Floats | None:
    """(3, 3) from pixels to mm, by least squares."""
    known = np.asarray(points, np.float64)
    found = cv2.findHomography(known[:, :2], known[:, 2:])[0]
    return None if found is None else np.asarray(found, np.float64)


def _lie_on_a_line(points: Floats) -> bool:
    """Whether all points but at most one lie nearly on a line, so that no homography is determined."""
    return any(
        (spread := np.linalg.svd(others - others.mean(0), compute_uv=False))[1] <= LEAST_SPREAD * spread[0]
        for others in (np.delete(points, k, axis=0) for k in range(len(points)))
    )
