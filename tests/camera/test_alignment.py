"""Alignment: known movements are found, what is no such part is not, and references survive JSON."""

import base64
import json

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.camera.alignment import LONGEST, Method, Reference, moved_points
from blemish.types import Image

Floats = NDArray[np.float64]


def drawn_part(size: tuple[int, int] = (360, 480)) -> Image:
    """A plate with holes and scratches of random places, the same every time."""
    random = np.random.default_rng(3)
    image = np.full((*size, 3), 60, np.uint8)
    cv2.rectangle(
        image, (size[1] // 6, size[0] // 6), (5 * size[1] // 6, 5 * size[0] // 6), (150, 150, 140), -1
    )
    for _ in range(60):
        place = (
            int(random.integers(size[1] // 5, 4 * size[1] // 5)),
            int(random.integers(size[0] // 5, 4 * size[0] // 5)),
        )
        cv2.circle(
            image, place, int(random.integers(3, 12)), [int(v) for v in random.integers(0, 255, 3)], -1
        )
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def moved(image: Image, angle: float, shift: tuple[float, float]) -> tuple[Image, Floats]:
    """The image turned about its centre and shifted, with noise, and the true matrix."""
    height, width = image.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0), np.float64)
    matrix[:, 2] += np.array(shift)
    seen = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    noisy = seen + np.random.default_rng(0).normal(0, 3, seen.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), np.asarray(matrix, np.float64)


def error(found: Floats, true: Floats, size: tuple[int, ...]) -> float:
    corners = np.array([(0, 0), (size[1], 0), (0, size[0]), (size[1], size[0])], np.float64)
    return float(np.linalg.norm(moved_points(corners, found) - moved_points(corners, true), axis=1).max())


PART = drawn_part()


@pytest.mark.parametrize(("angle", "shift"), [(0.0, (7.3, -4.6)), (2.0, (12.2, 5.5)), (-10.0, (20.0, -15.0))])
@pytest.mark.parametrize("deep", [False, True])
def test_features_find_shift_and_rotation(angle: float, shift: tuple[float, float], deep: bool) -> None:
    seen, true = moved(PART, angle, shift)
    found = Reference.of(PART).locate(seen.astype(np.uint16) * 257 if deep else seen, "features")
    assert error(found.matrix, true, PART.shape) < 0.5
    assert found.residual < 2


@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.3, -4.6), (-31.5, 18.0)])
def test_phases_find_a_shift(shift: tuple[float, float]) -> None:
    seen, true = moved(PART, 0.0, shift)
    found = Reference.of(PART).locate(seen, "phase")
    assert error(found.matrix, true, PART.shape) < 0.2
    assert found.residual < 1


@pytest.mark.parametrize("method", ["features", "phase"])
def test_large_images_are_compared_small_and_placed_at_full_size(method: Method) -> None:
    large = drawn_part((1200, 1600))
    reference = Reference.of(large)
    assert len(reference.png) < 2**21
    found = reference.locate(np.asarray(np.roll(large, (6, 9), (0, 1)), np.uint8), method)
    assert found.matrix[:, 2] == pytest.approx([9, 6], abs=0.5)


@pytest.mark.parametrize("method", ["features", "phase"])
def test_what_is_no_such_part_is_not_found(method: Method) -> None:
    noise = np.random.default_rng(0).integers(0, 255, PART.shape).astype(np.uint8)
    for other in (np.full_like(PART, 90), noise, np.zeros_like(PART)):
        assert Reference.of(PART).locate(other, method).residual > 5


@pytest.mark.parametrize("method", ["features", "phase"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (9, 9)])
def test_tiny_images_raise_nothing(method: Method, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    assert Reference.of(image).locate(image, method).residual >= 0


def test_a_reference_is_json() -> None:
    reference = Reference.of(PART)
    assert Reference.from_json(json.dumps(reference.to_dict())) == reference


@pytest.mark.parametrize(
    "png",
    [
        "",
        "no base64!",
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode(),
        base64.b64encode(
            b"\x89PNG\r\n\x1a\n" + bytes(8) + np.array([60000, 60000], ">u4").tobytes() + bytes(20)
        ).decode(),
    ],
)
def test_what_is_no_reference_is_refused(png: str) -> None:
    with pytest.raises(ValueError, match="png must be a grey image of the reference's size"):
        Reference(height=LONGEST, width=LONGEST, png=png)
    with pytest.raises(ValueError, match="png must be a grey image of the reference's size"):
        Reference(height=10, width=10, png=Reference.of(PART).png)
