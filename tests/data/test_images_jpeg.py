"""JPEG: sound files of every kind give Pillow's pixels, files damaged in the middle are refused."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

from blemish.data.images import read_image
from blemish.errors import DataError


def photograph(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth areas with some grain, since every JPEG of pure noise decodes to noise."""
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 4, (height, width, channels))
    pixels: NDArray[np.uint8] = (smooth.reshape(grain.shape) + grain).clip(0, 255).astype(np.uint8)
    return pixels


def encoded(pixels: NDArray[np.uint8], mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    shape = (pixels.shape[1], pixels.shape[0])
    PillowImage.frombytes(mode, shape, pixels.tobytes()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    options=st.fixed_dictionaries(
        {"quality": st.integers(20, 100), "progressive": st.booleans(), "optimize": st.booleans()},
        optional={
            "subsampling": st.integers(0, 2),
            "restart_marker_blocks": st.integers(1, 9),
            "keep_rgb": st.booleans(),
        },
    ),
    behind=st.binary(max_size=40),
)
def test_sound_files_have_the_pixels_of_pillow(
    tmp_path: Path, size: tuple[int, int], mode: str, options: dict[str, Any], behind: bytes
) -> None:
    assume(not (options.get("keep_rgb") and options.get("subsampling")))  # libjpeg cannot write this
    data = encoded(photograph(*size, len(mode)), mode, **options)
    (tmp_path / "a.jpg").write_bytes(data + behind)
    expected = PillowImage.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(expected))


def test_ink_that_is_stored_as_luminance_and_colour(tmp_path: Path) -> None:
    data = bytearray(encoded(photograph(30, 40, 4), "CMYK", quality=95))
    data[data.index(b"Adobe") + 11] = 2  # YCCK
    (tmp_path / "a.jpg").write_bytes(data)
    expected = PillowImage.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(expected))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("damage", ["zeros", "cut", "noise", "marker"])
def test_file_damaged_in_the_middle_is_refused(tmp_path: Path, progressive: bool, damage: str) -> None:
    data = encoded(photograph(200, 300), quality=75, progressive=progressive)
    middle = len(data) // 2
    noise = np.random.default_rng(1).integers(0, 255, 512).astype(np.uint8).tobytes()
    new = {"zeros": bytes(2048), "cut": b"", "noise": noise, "marker": b"\xff\xd9"}[damage]
    (tmp_path / "a.jpg").write_bytes(data[:middle] + new + data[middle + (len(new) or 1000) :])
    with pytest.raises(
        DataError, match=r"a\.jpg is truncated or damaged \(.*\)\. Copy it again from its source"
    ):
        read_image(tmp_path / "a.jpg")
