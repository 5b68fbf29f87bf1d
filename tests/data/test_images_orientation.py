"""The orientation in the metadata of each format is applied, and damaged metadata is ignored."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from blemish.data.images import read_image, read_mask
from image_examples import GREY, GREY16, RGB, RGB16, as_rgb, expect, png16, png_chunk


def with_orientation(orientation: int) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """What Pillow makes of the orientation, channel by channel so that 16 bits work too."""
    planes = []
    for plane in np.moveaxis(pixels, -1, 0):
        image = PillowImage.fromarray(plane.astype(np.int32))
        image.getexif()[0x0112] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(image)).astype(pixels.dtype))
    return np.stack(planes, axis=2)


@pytest.mark.parametrize("orientation", range(1, 9))
class TestOrientation:
    @pytest.mark.parametrize("suffix", [".png", ".webp"])
    def test_8bit(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        path = tmp_path / f"o{suffix}"
        options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
        PillowImage.fromarray(RGB).save(path, exif=with_orientation(orientation), **options)
        expect(path, upright(RGB, orientation))

    def test_jpeg(self, tmp_path: Path, orientation: int) -> None:
        PillowImage.fromarray(RGB).save(tmp_path / "plain.jpg")
        PillowImage.fromarray(RGB).save(tmp_path / "o.jpg", exif=with_orientation(orientation))
        expect(tmp_path / "o.jpg", upright(read_image(tmp_path / "plain.jpg"), orientation))

    @pytest.mark.parametrize("behind", [False, True], ids=["before pixels", "behind pixels"])
    def test_16bit_png(self, tmp_path: Path, orientation: int, behind: bool) -> None:
        exif = png_chunk(b"eXIf", with_orientation(orientation)[6:])
        (tmp_path / "o.png").write_bytes(png16(RGB16, 2, *((b"", exif) if behind else (exif, b""))))
        expect(tmp_path / "o.png", upright(RGB16, orientation))

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_8bit_tiff(self, tmp_path: Path, orientation: int, compression: str) -> None:
        PillowImage.fromarray(RGB).save(
            tmp_path / "o.tif", tiffinfo={0x0112: orientation}, compression=compression
        )
        expect(tmp_path / "o.tif", upright(RGB, orientation))

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("tag_type", ["H", "I"])
    def test_16bit_tiff(self, tmp_path: Path, orientation: int, byteorder: Any, tag_type: Any) -> None:
        tags = [(0x0112, tag_type, 1, orientation, True)]
        tifffile.imwrite(
            tmp_path / "o.tif", RGB16, photometric="rgb", byteorder=byteorder, extratags=tags, metadata=None
        )
        expect(tmp_path / "o.tif", upright(RGB16, orientation))

    def test_16bit_lzw_tiff(self, tmp_path: Path, orientation: int) -> None:
        image = PillowImage.fromarray(GREY16)
        image.save(tmp_path / "o.tif", tiffinfo={0x0112: orientation}, compression="tiff_lzw")
        expect(tmp_path / "o.tif", upright(as_rgb(GREY16), orientation))

    def test_mask(self, tmp_path: Path, orientation: int) -> None:
        PillowImage.fromarray(GREY).save(tmp_path / "m.png", exif=with_orientation(orientation))
        expected = upright(GREY[..., None], orientation)[..., 0] > 127
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", size=expected.shape), expected)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01", b"Exif\0\0nonsense", b"Exif\0\0" + b"\xff" * 40]
)
def test_damaged_metadata_does_not_matter(tmp_path: Path, exif: bytes) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / "e.png", exif=exif)
    expect(tmp_path / "e.png", RGB)


def test_damaged_metadata_does_not_even_warn(tmp_path: Path) -> None:
    """In a process of its own: pytest's filters stand before the one that the module sets for good."""
    cut = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"
    PillowImage.fromarray(RGB).save(tmp_path / "e.jpg", exif=cut)
    code = f"from blemish.data.images import read_image; print(read_image({str(tmp_path / 'e.jpg')!r}).shape)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("(13, 21, 3)\n", "")
