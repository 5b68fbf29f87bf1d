"""Every format, mode and bit depth against the pixels that were put in."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from blemish.data.images import image_size, read_image, write_image
from image_examples import ALPHA, CMYK16, GREY, GREY16, RGB, RGB16, RNG, as_rgb, expect, png16


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_formats_give_the_pixels_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    PillowImage.fromarray(RGB).save(path, **options)
    expect(path, RGB)
    PillowImage.fromarray(GREY).save(path, **options)
    expect(path, as_rgb(GREY))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[0:200:32j, 50:150:48j], 90.0), axis=2).astype(np.uint8)
    PillowImage.fromarray(smooth).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - smooth).max() <= 8
    assert image_size(path) == (32, 48)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped_not_composited(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    PillowImage.fromarray(np.concatenate([RGB, ALPHA], axis=2)).save(path, **options)
    expect(path, RGB)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_with_alpha(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    PillowImage.fromarray(np.stack([GREY, ALPHA[..., 0]], axis=2), "LA").save(path)
    expect(path, as_rgb(GREY))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(16))])
def test_palette_with_and_without_transparency(tmp_path: Path, transparency: int | bytes | None) -> None:
    index = RNG.integers(0, 16, (13, 21)).astype(np.uint8)
    palette = RNG.integers(0, 256, (16, 3)).astype(np.uint8)
    image = PillowImage.fromarray(index, "P")
    image.putpalette(palette.tobytes())
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "p.png", **options)
    expect(tmp_path / "p.png", palette[index])
    image.save(tmp_path / "p.bmp")
    expect(tmp_path / "p.bmp", palette[index])
    image.save(tmp_path / "p.tif")
    expect(tmp_path / "p.tif", palette[index])


def test_transparent_colour_of_an_rgb_png_is_kept(tmp_path: Path) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / "t.png", transparency=tuple(RGB[0, 0].tolist()))
    expect(tmp_path / "t.png", RGB)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bits{suffix}"
    bits = GREY > 100
    PillowImage.fromarray(bits).save(path)
    expect(path, as_rgb(bits.astype(np.uint8) * 255))


def test_one_bit_fax_tiff_where_zero_is_white(tmp_path: Path) -> None:
    bits = GREY > 100
    PillowImage.fromarray(bits).save(tmp_path / "fax.tif", compression="group4")
    expect(tmp_path / "fax.tif", as_rgb(bits.astype(np.uint8) * 255))


def test_cmyk(tmp_path: Path) -> None:
    cmyk = np.concatenate([RGB, ALPHA], axis=2)
    PillowImage.fromarray(cmyk, "CMYK").save(tmp_path / "c.tif")
    ink = cmyk.astype(float) / 255
    expected = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert np.abs(read_image(tmp_path / "c.tif") - expected).max() <= 1
    flat = np.broadcast_to(np.array([200, 30, 90, 60], np.uint8), (16, 16, 4))
    PillowImage.fromarray(np.ascontiguousarray(flat), "CMYK").save(tmp_path / "c.jpg", quality=98)
    expected = 255 * (1 - flat[..., :3] / 255) * (1 - flat[..., 3:] / 255)
    assert np.abs(read_image(tmp_path / "c.jpg") - expected).max() <= 4


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_8bit_tiff_compressions(tmp_path: Path, compression: str) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / "c.tif", compression=compression)
    expect(tmp_path / "c.tif", RGB)


@pytest.mark.parametrize(
    ("colour_type", "pixels"),
    [
        (0, GREY16[..., None]),
        (2, RGB16),
        (4, RGB16[..., :2]),
        (6, np.concatenate([RGB16, GREY16[..., None]], axis=2)),
    ],
    ids=["grey", "rgb", "grey+alpha", "rgba"],
)
def test_16bit_png_keeps_its_bits(tmp_path: Path, colour_type: int, pixels: NDArray[np.uint16]) -> None:
    (tmp_path / "deep.png").write_bytes(png16(pixels, colour_type))
    expect(tmp_path / "deep.png", pixels[..., :3] if pixels.shape[2] >= 3 else as_rgb(pixels[..., 0]))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_16bit_rgb_tiff(tmp_path: Path, byteorder: Any, compression: str | None, bigtiff: bool) -> None:
    tifffile.imwrite(
        tmp_path / "d.tif",
        RGB16,
        photometric="rgb",
        byteorder=byteorder,
        compression=compression,
        bigtiff=bigtiff,
        metadata=None,
    )
    expect(tmp_path / "d.tif", RGB16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_one_plane_per_colour(tmp_path: Path, dtype: type[np.uint8 | np.uint16]) -> None:
    pixels = RGB16.astype(dtype)
    planes = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate", metadata=None)
    expect(tmp_path / "p.tif", pixels)


@pytest.mark.parametrize("pixels", [GREY, GREY16], ids=["8", "16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_where_white_is_zero(tmp_path: Path, pixels: NDArray[Any], byteorder: Any) -> None:
    tifffile.imwrite(tmp_path / "w.tif", pixels, photometric="miniswhite", byteorder=byteorder, metadata=None)
    expect(tmp_path / "w.tif", as_rgb(np.iinfo(pixels.dtype).max - pixels))


def test_tiled_16bit_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", RGB16, photometric="rgb", tile=(16, 16), metadata=None)
    expect(tmp_path / "t.tif", RGB16)


def test_16bit_tiff_with_alpha_and_one_in_cmyk(tmp_path: Path) -> None:
    rgba = np.concatenate([RGB16, GREY16[..., None]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    expect(tmp_path / "a.tif", RGB16)
    tifffile.imwrite(tmp_path / "c.tif", CMYK16, photometric="separated", metadata=None)
    ink = CMYK16 / 65535
    expected = 65535 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert np.abs(read_image(tmp_path / "c.tif") - expected).max() <= 1


@pytest.mark.parametrize("pixels", [GREY16, RGB16], ids=["grey", "rgb"])
@pytest.mark.parametrize("scheme", [5, 32773], ids=["lzw", "packbits"])
def test_16bit_tiff_compressed(tmp_path: Path, pixels: NDArray[np.uint16], scheme: int) -> None:
    code = cv2.imencode(
        ".tif", pixels[..., ::-1] if pixels.ndim == 3 else pixels, [cv2.IMWRITE_TIFF_COMPRESSION, scheme]
    )
    (tmp_path / "l.tif").write_bytes(code[1].tobytes())
    expect(tmp_path / "l.tif", pixels if pixels.ndim == 3 else as_rgb(pixels))


def test_pillow_limit_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns above a size of its own; our limit must be the only one, without a warning."""
    write_image(tmp_path / "a.png", RGB)
    write_image(tmp_path / "a.jpg", RGB)
    write_image(tmp_path / "a.bmp", RGB)
    PillowImage.fromarray(RGB).save(tmp_path / "a.tif")
    PillowImage.fromarray(RGB).save(tmp_path / "b.tif", compression="tiff_lzw")
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)
    for path in sorted(tmp_path.iterdir()):
        assert read_image(path).shape == RGB.shape


def test_buffer_is_not_shared_between_reads(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PillowImage.fromarray(RGB).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    first = read_image(tmp_path / "a.png")
    first[:] = 0
    expect(tmp_path / "a.png", RGB)
