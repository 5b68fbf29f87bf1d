"""The size of the input follows from the images, and what can be seen at that size is computed from both."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.data import input_size
from blemish.data.images import write_image
from blemish.data.input_size import Resolution, auto_preprocess, typical_size
from blemish.data.preprocess import Preprocess
from blemish.types import Sample


def write(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    """Black images of these sizes (H, W)."""
    paths = [folder / f"{index:03d}.png" for index in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        write_image(path, np.zeros(size, np.uint8))
    return paths


@pytest.mark.parametrize(
    ("image", "pixels", "size"),
    [
        ((90, 90), 256**2, (256, 256)),
        ((125, 50), 256**2, (416, 160)),
        ((50, 125), 256**2, (160, 416)),
        ((120, 160), 512**2, (448, 576)),
        ((2, 900), 256**2, (32, 5440)),
    ],
)
def test_the_input_has_the_images_aspect_ratio(
    tmp_path: Path, image: tuple[int, int], pixels: int, size: tuple[int, int]
) -> None:
    paths = write(tmp_path, image)
    assert auto_preprocess(paths, pixels=pixels) == Preprocess(size=size)
    assert auto_preprocess([Sample(paths[0], 0, "train")], pixels=pixels, resize="fit") == Preprocess(
        size=size, resize="fit"
    )


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), pixels=st.integers(128**2, 2048**2))
def test_sides_are_multiples_of_32_and_off_by_half_a_step_at_most(
    height: int, width: int, pixels: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(input_size, "image_size", lambda _: (height, width))
        size = auto_preprocess(["one.png"], pixels=pixels).size
    exact = math.sqrt(pixels * height / width), math.sqrt(pixels * width / height)
    for side, wanted in zip(size, exact, strict=True):
        assert side % 32 == 0
        assert abs(side - wanted) <= 16 or (side, wanted > 32) in {(32, False), (16384, True)}


def test_the_typical_image_has_the_median_aspect_ratio(tmp_path: Path) -> None:
    paths = write(tmp_path, (100, 100), (40, 80), (90, 30), (50, 50), (200, 200))
    assert typical_size(paths) == (100, 100)  # of the three squares the one of median area
    paths[0].write_bytes(b"damaged")
    paths[2].unlink()
    assert typical_size(paths) == (50, 50)


def test_without_a_readable_header_the_input_is_square(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert typical_size([tmp_path / "a.png"]) is None
    assert typical_size([]) is None
    assert auto_preprocess([tmp_path / "a.png"]) == Preprocess(size=(256, 256))


def test_of_many_images_64_headers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def image_size(path: str) -> tuple[int, int]:
        read.append(path)
        return 1 + int(path), 100

    monkeypatch.setattr(input_size, "image_size", image_size)
    height, _ = typical_size([str(index) for index in range(1000)]) or (0, 0)
    assert len(read) == len(set(read)) == 64
    assert abs(height - 500) <= 16


def test_numbers_of_pixels_that_no_input_can_have_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, (10, 20))
    for pixels in (0, -1, 16384**2 + 1):
        with pytest.raises(ValueError, match=rf"^pixels must be from 1 to 16384², got {pixels}\.$"):
            auto_preprocess(paths, pixels=pixels)
    assert auto_preprocess(paths, pixels=16384**2).size == (11584, 16384)


def test_resolution_is_in_pixels_of_the_image() -> None:
    squashed = Resolution.of((1250, 500), Preprocess(size=(416, 160)), (8, 8))
    assert squashed.cell == pytest.approx((8 * 1250 / 416, 25))
    assert squashed.smallest_defect == pytest.approx(37.5)
    assert squashed.describe() == (
        "one cell covers 24 × 25 pixels; defects from about 38 pixels can be expected to be seen"
    )
    padded = Resolution.of((1250, 500), Preprocess(size=(250, 250), resize="fit"), (8, 8))
    assert padded.cell == pytest.approx((40, 40))
    cropped = Resolution.of((512, 512), Preprocess(size=(256, 256), crop=(224, 224)), (8, 8))
    assert cropped.cell == (16, 16)
    fine = Resolution.of((512, 512), Preprocess(size=(256, 256)), (1, 2.5))
    assert (fine.cell, fine.smallest_defect) == ((2, 5), 24)
    assert fine.describe().startswith("one cell covers 2 × 5 pixels; defects from about 24 pixels")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": [0, 5]}, r"image_size must be \(height, width\), two whole numbers above 0"),
        ({"cell": [1.0]}, r"cell must be \(height, width\), two numbers above 0"),
        ({"smallest_defect": 0}, "smallest_defect must be a number above 0, got 0"),
        ({"smallest_defect": "8"}, "smallest_defect must be a number above 0, got '8'"),
        ({"more": 1}, "more is unknown"),
    ],
)
def test_a_resolution_is_read_strictly(change: dict[str, object], message: str) -> None:
    sound = Resolution(image_size=(5, 6), cell=(1.0, 2.0), smallest_defect=3.0)
    assert Resolution.from_json(json.dumps(sound.to_dict())) == sound
    with pytest.raises(ValueError, match=message):
        Resolution.from_json(json.dumps(sound.to_dict() | change))
