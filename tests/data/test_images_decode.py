"""Every format, mode and bit depth against the pixels that were put in."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from blemish.data.images import image_size, read_image, read_mask, write_image

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (13, 21, 3)).astype(np.uint8)
GREY = RGB[..., 0]
RGB16 = RNG.integers(0, 65536, (13, 21, 3)).astype(np.uint16)
GREY16 = RGB16[..., 0]
ALPHA = RNG.integers(0, 256, (13, 21, 1)).astype(np.uint8)
CMYK16 = RNG.integers(0, 65536, (13, 21, 4)).astype(np.uint16)


def as_rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return np.stack([grey] * 3, axis=2)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(
    pixels: NDArray[np.uint16], colour_type: int, before: bytes = b"", behind: bytes = b"", depth: int = 16
) -> bytes:
    """A PNG by hand, since Pillow cannot write 16-bit colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + behind + png_chunk(b"IEND", b"")


def expect(path: Path, expected: NDArray[Any]) -> None:
    image = read_image(path)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    assert image.flags.writeable
    assert image_size(path) == expected.shape[:2]


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


def test_names_in_chinese_and_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "瓶子 第一批"
    folder.mkdir()
    for name, pixels in (("好 样品.png", RGB), ("样品 №2.tif", RGB16), ("深.png", RGB16), ("图.bmp", RGB)):
        write_image(folder / name, pixels)
        expect(folder / name, pixels)
    assert sorted(p.suffix for p in folder.iterdir()) == [".bmp", ".png", ".png", ".tif"]  # no drafts left


@pytest.mark.parametrize(
    "pixels", [GREY, RGB, GREY16, RGB16, GREY > 90], ids=["g", "rgb", "g16", "rgb16", "mask"]
)
@pytest.mark.parametrize("suffix", [".png", ".TIF"])
def test_written_is_read(tmp_path: Path, pixels: NDArray[Any], suffix: str) -> None:
    write_image(tmp_path / f"w{suffix}", pixels)
    shown = pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels
    expect(tmp_path / f"w{suffix}", shown if shown.ndim == 3 else as_rgb(shown))


def test_writing_replaces_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.png"
    write_image(path, RGB)
    write_image(path, GREY)
    expect(path, as_rgb(GREY))
    with pytest.raises(ValueError, match=r"float64 pixels cannot be written. Use uint8"):
        write_image(path, np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"uint16 pixels cannot be written"):
        write_image(tmp_path / "w.jpg", RGB16)
    with pytest.raises(ValueError, match=r"got \(3, 3, 2\)"):
        write_image(path, np.zeros((3, 3, 2), np.uint8))
    with pytest.raises(ValueError, match=r"suffix must be that of PNG, JPEG, BMP, TIFF or WebP"):
        write_image(tmp_path / "w.xyz", RGB)

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(path, RGB)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]
    expect(path, as_rgb(GREY))


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
