"""The time of capture in the EXIF data of each format; whatever is damaged or hostile states none."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from blemish.data.capture_time import capture_time

EXIF_DIRECTORY, ORIGINAL, FRACTION = 0x8769, 0x9003, 0x9291
TIME = "2026:03:01 12:34:56"


def written(path: Path, time: str, fraction: str | None = None) -> Path:
    """An image that states a time."""
    tags = {ORIGINAL: time} | ({} if fraction is None else {FRACTION: fraction})
    exif = PillowImage.Exif()
    exif[0x0112] = 1  # without a tag outside the directory, Pillow writes none
    exif.get_ifd(EXIF_DIRECTORY).update(tags)
    options: dict[str, Any] = (
        {"tiffinfo": {EXIF_DIRECTORY: tags}} if path.suffix == ".tif" else {"exif": exif}
    )
    PillowImage.new("RGB", (8, 6), (9, 120, 33)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(
    ("fraction", "microsecond"), [(None, 0), ("5", 500_000), ("123", 123_000), ("1234567", 123_456), ("x", 0)]
)
def test_each_format(tmp_path: Path, suffix: str, fraction: str | None, microsecond: int) -> None:
    path = written(tmp_path / f"a{suffix}", TIME, fraction)
    assert capture_time(path) == datetime(2026, 3, 1, 12, 34, 56, microsecond)


@pytest.mark.parametrize(
    "time", ["", "0000:00:00 00:00:00", "    :  :     :  :  ", "2026-03-01", "2026:02:30 00:00:00"]
)
def test_what_is_no_time_is_none(tmp_path: Path, time: str) -> None:
    assert capture_time(written(tmp_path / "a.jpg", time)) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_images_without_exif_and_files_that_are_no_images_state_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert capture_time(path) is None
    PillowImage.new("RGB", (8, 6)).save(path)
    assert capture_time(path) is None
    path.write_bytes(path.read_bytes()[:20])
    assert capture_time(path) is None
    path.write_bytes(b"")
    assert capture_time(path) is None
    assert capture_time(tmp_path) is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 400),
    st.binary(min_size=1, max_size=12),
    st.sampled_from([".jpg", ".png", ".webp", ".tif"]),
)
def test_damaged_exif_never_fails(tmp_path: Path, place: int, damage: bytes, suffix: str) -> None:
    data = bytearray(written(tmp_path / f"a{suffix}", TIME, "5").read_bytes())
    data[place % len(data) : place % len(data) + len(damage)] = damage
    (tmp_path / "b").write_bytes(data)
    assert isinstance(capture_time(tmp_path / "b"), datetime | None)
