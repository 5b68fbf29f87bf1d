"""Where a part lies in an image, by comparison with a reference image, so that zones follow it."""

import base64
import binascii
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from blemish.messages import message
from blemish.opencv import cv2
from blemish.records import Record
from blemish.types import Image

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]
Method = Literal["features", "phase"]

LONGEST = 1024
"""Longest side at which images are compared, in pixels."""
FEATURES = 1500
"""Maximum number of ORB features of an image."""
LEAST_SIDE = 32
"""Shortest side of images in which features are looked for."""
FEWEST = 12
"""Smallest number of features that must agree."""
INLIER = 3.0
"""Pixels at the compared size by which features that agree may differ."""
PHASE_LONGEST = 512
"""Longest side at which phases are correlated; on finer grids the grain of each part hides what parts share."""
WEAKEST = 0.1
"""Smallest peak of the phase correlation: parts of one product have 0.3 and more, unrelated images up to 0.06."""
SMALLEST = 8
"""Shortest side of what is correlated."""
ROUNDS = 30
"""Iterations that refine the placement."""


class Placement(NamedTuple):
    """Where the part of the reference lies in an image."""

    matrix: Floats
    """(2, 3): maps places (x, y) in the reference to places in the image."""
    residual: float
    """How badly it fits, in pixels of the image; ∞ if the part was not found."""


class Reference(Record):
    """A reference image, grey and small enough to be part of a model."""

    height: int = Field(ge=1, le=65536, description="a whole number from 1 to 65536")
    """Of the image as it was."""
    width: int = Field(ge=1, le=65536, description="a whole number from 1 to 65536")
    png: str = Field(max_length=2**23, description="a PNG file in base64")
    """At most `LONGEST` pixels long."""

    @classmethod
    def of(cls, image: Image) -> Self:
        """The reference that an image (H, W, 3) is."""
        encoded = cv2.imencode(".png", _shrunk(image))[1]
        return cls(
            height=image.shape[0], width=image.shape[1], png=base64.b64encode(encoded.tobytes()).decode()
        )

    @model_validator(mode="after")
    def _require_image(self) -> Self:
        grey, scale = _decoded(self.png), min(1.0, LONGEST / max(self.height, self.width))
        size = (max(1, round(self.height * scale)), max(1, round(self.width * scale)))
        if grey is None or grey.shape != size:
            raise ValueError(message("png must be a grey image of the reference's size, shrunk"))
        return self

    def locate(self, image: Image, method: Method) -> Placement:
        """Where the reference's part lies in an image (H, W, 3) of the same size.

        Args:
            image: The image.
            method: "features" finds shift, rotation and scale, "phase" a shift only, also of images with few features.
        """
        grey, seen = _decoded(self.png), _shrunk(image)
        if grey is None or grey.shape != seen.shape:
            return Placement(np.eye(2, 3), np.inf)
        found = _by_features(grey, seen) if method == "features" else _by_phase(grey, seen)
        factor = max(self.height, self.width) / max(seen.shape)
        matrix = found.matrix.copy()
        # A pixel's centre is at k at full size, and at (k + 0.5) / factor - 0.5 at the compared one.
        offset = (factor - 1) / 2
        matrix[:, 2] = factor * matrix[:, 2] + offset - matrix[:, :2] @ np.array([offset, offset])
        return Placement(matrix, factor * found.residual)


def moved_points(points: Floats, matrix: Floats) -> Floats:
    """Places (n, 2) of the reference as places in the image."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _shrunk(image: Image) -> Grey:
    """Grey levels of 8 bits, at most `LONGEST` pixels long."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    eight = grey if image.dtype == np.uint8 else np.right_shift(grey, 8).astype(np.uint8)
    scale = LONGEST / max(eight.shape)
    if scale >= 1:
        return np.asarray(eight, np.uint8)
    size = (max(1, round(eight.shape[1] * scale)), max(1, round(eight.shape[0] * scale)))
    return np.asarray(cv2.resize(eight, size, interpolation=cv2.INTER_AREA), np.uint8)


def _decoded(png: str) -> Grey | None:
    """The image in a reference; None if there is none."""
    try:
        data = np.frombuffer(base64.b64decode(png, validate=True), np.uint8)
    except binascii.Error:
        return None
    if len(data) < 33 or data[:8].tobytes() != b"\x89PNG\r\n\x1a\n":
        return None
    width, height = np.frombuffer(data[16:24].tobytes(), ">u4").tolist()
    if not (1 <= width <= LONGEST and 1 <= height <= LONGEST):
        return None
    found = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return None if found is None else np.asarray(found, np.uint8)


def _by_features(reference: Grey, seen: Grey) -> Placement:
    """Shift, rotation and scale by ORB features that agree (RANSAC), refined on the grey values."""
    nowhere = Placement(np.eye(2, 3), np.inf)
    if min(reference.shape) < LEAST_SIDE:
        return nowhere
    detector = cv2.ORB_create(FEATURES)  # type: ignore[attr-defined]
    (first, ours), (second, theirs) = (detector.detectAndCompute(one, None) for one in (reference, seen))
    if ours is None or theirs is None:
        return nowhere
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(ours, theirs)
    if len(pairs) < FEWEST:
        return nowhere
    source = np.array([first[pair.queryIdx].pt for pair in pairs])
    target = np.array([second[pair.trainIdx].pt for pair in pairs])
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=INLIER)
    if matrix is None or inliers.sum() < FEWEST:
        return nowhere
    kept = inliers.ravel() > 0
    refined = _refined(reference, seen, np.asarray(matrix, np.float64))
    errors = moved_points(source[kept], refined) - target[kept]
    return Placement(refined, float(np.sqrt((errors**2).sum(axis=1).mean())))


def _refined(reference: Grey, seen: Grey, matrix: Floats) -> Floats:
    """The placement at which the grey values correlate best (Evangelidis and Psarakis, ECC, PAMI 2008)."""
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ROUNDS, 1e-4)
    try:
        found = cv2.findTransformECC(
            reference, seen, matrix.astype(np.float32), cv2.MOTION_AFFINE, criteria, np.empty(0), 5
        )[1]
    except cv2.error:  # it did not converge
        return matrix
    shift = np.abs(np.asarray(found, np.float64) - matrix)
    return np.asarray(found, np.float64) if shift[:, 2].max() < INLIER else matrix


def _by_phase(reference: Grey, seen: Grey) -> Placement:
    """A shift by phase correlation; the residual is how much the quarters of the image disagree with it."""
    factor = max(1.0, max(seen.shape) / PHASE_LONGEST)
    size = (round(seen.shape[1] / factor), round(seen.shape[0] / factor))
    known, new = (
        np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.float32)
        for one in (reference, seen)
    )
    shift, peak = _phase(known, new)
    if peak < WEAKEST:
        return Placement(np.eye(2, 3), np.inf)
    matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    back = cv2.warpAffine(new, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    off = []
    for rows in _halves(size[1]):
        for columns in _halves(size[0]):
            rest, strength = _phase(known[rows, columns], np.asarray(back, np.float32)[rows, columns])
            if strength >= WEAKEST:  # a blank quarter says nothing
                off.append(float(np.hypot(*rest)))
    residual = max(off) if len(off) > 1 else np.inf
    return Placement(
        np.array([[1.0, 0.0, factor * shift[0]], [0.0, 1.0, factor * shift[1]]]), factor * residual
    )


def _halves(length: int) -> tuple[slice, slice]:
    return slice(0, length // 2), slice(length // 2, None)


def _phase(reference: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[Floats, float]:
    """The shift (x, y) between images of one size, and the height of the correlation's peak."""
    if min(reference.shape) < SMALLEST:
        return np.zeros(2), 0.0
    window = cv2.createHanningWindow(reference.shape[::-1], cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(reference, seen, window)
    return np.array(shift, np.float64), float(peak)
