"""Files that must be refused with one clear error, and masks."""

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from blemish.data.images import (
    content_fingerprint,
    image_size,
    read_image,
    read_mask,
    write_image,
)
from blemish.errors import DataError

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
RGB16 = RNG.integers(0, 65536, (40, 60, 3)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.02])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    PillowImage.fromarray(RGB).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=rf"cut\{suffix} is truncated or damaged .*Copy it again"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_truncated_16bit(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, RGB16)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match="is truncated or damaged"):
        read_image(path)


def test_no_image_at_all(tmp_path: Path) -> None:
    empty = tmp_path / "空 empty.png"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match=r"空 empty\.png is empty \(0 bytes\)"):
        read_image(empty)
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    for read in (read_image, read_mask, image_size):
        with pytest.raises(DataError, match=r"notes\.png is not a PNG, JPEG, BMP, TIFF or WebP image"):
            read(text)
    with pytest.raises(DataError, match=r"gone\.png does not exist\. Check the path\."):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"is a folder, not an image\. Name an image, or a folder that holds"):
        read_image(tmp_path)
    with pytest.raises(DataError, match=r"truncated or damaged \(embedded null byte\)"):
        read_image("nul\0byte.png")


def bomb_png() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_png())
    with pytest.raises(
        DataError, match=r"60000×60000 pixels by its header, more than the limit of 200000000\..*BLEMISH_MAX"
    ):
        read_image(path)
    with pytest.raises(DataError, match="more than the limit"):
        read_mask(path)
    assert image_size(path) == (60000, 60000)
    webp = tmp_path / "bomb.webp"
    PillowImage.fromarray(np.dstack([RGB, RGB[..., 0]])).save(webp, lossless=True)
    data = bytearray(webp.read_bytes())
    canvas = struct.pack("<I", 16383)[:3] * 2
    webp.write_bytes(b"RIFF" + data[4:12] + b"VP8X" + struct.pack("<II", 10, 0x10) + canvas + data[12:])
    with pytest.raises(DataError, match=r"too large to decode|damaged"):
        read_image(webp)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_limit_is_configurable(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, RGB)
    assert read_image(path, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(DataError, match=r"60×40 pixels by its header, more than the limit of 2399"):
        read_image(path, max_pixels=2399)
    monkeypatch.setenv("BLEMISH_MAX_PIXELS", "2399")
    with pytest.raises(DataError, match="more than the limit of 2399"):
        read_image(path)
    monkeypatch.setenv("BLEMISH_MAX_PIXELS", "2400")
    assert read_image(path).shape == (40, 60, 3)
    for wrong in ("many", "0", "-5"):
        monkeypatch.setenv("BLEMISH_MAX_PIXELS", wrong)
        with pytest.raises(DataError, match=f"BLEMISH_MAX_PIXELS is '{wrong}'. Set it to a whole number"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_more_than_one_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    frames = [PillowImage.fromarray(RGB), PillowImage.fromarray(255 - RGB)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"film\{suffix} is an animated or multi-page .* of 2 images\. Save"):
        read_image(path)


def test_16bit_film_and_gif(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([RGB16, RGB16]), photometric="rgb")
    with pytest.raises(DataError, match="multi-page TIFF of 2 images"):
        read_image(tmp_path / "stack.tif")
    PillowImage.fromarray(RGB).save(tmp_path / "a.gif")
    with pytest.raises(
        DataError, match=r"a\.gif is a GIF, which is not supported\. Save the image that you need as PNG"
    ):
        read_image(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (np.float32, "floating-point 32-bit"),
        (np.float16, "floating-point 16-bit"),
        (np.int16, "signed 16-bit"),
        (np.uint32, "unsigned 32-bit"),
    ],
)
def test_tiff_numbers_without_a_known_range(tmp_path: Path, dtype: Any, words: str) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.ones((5, 6), dtype), photometric="minisblack")
    with pytest.raises(
        DataError, match=rf"f\.tif is a TIFF of {words} numbers.*Save it with unsigned 8 or 16"
    ):
        read_image(tmp_path / "f.tif")


def test_16bit_tiff_of_many_channels(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", np.ones((5, 6, 7), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(DataError, match="neither grey nor RGB nor CMYK"):
        read_image(tmp_path / "m.tif")


def test_tiff_that_states_two_sizes(tmp_path: Path) -> None:
    """One reader knows the type of the first width and height, the other passes over it: a bomb hides there."""
    width, height = (
        struct.pack("<HHII", t, 17, 1, 8) + struct.pack("<HHII", t, 4, 1, 60000) for t in (256, 257)
    )
    others = [(258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60000), (279, 16)]
    entries = width + height + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in others)
    directory = struct.pack("<H", len(entries) // 12) + entries + bytes(4)
    data = b"II*\0" + struct.pack("<I", 24) + struct.pack("<qq", 4, 4) + directory
    (tmp_path / "two.tif").write_bytes(data)
    assert image_size(tmp_path / "two.tif") == (4, 4)
    with pytest.raises(DataError, match=r"it states two different sizes"):
        read_image(tmp_path / "two.tif")


def test_png_chunk_longer_than_its_file(tmp_path: Path) -> None:
    """The 16-bit decoder would reserve the gigabytes that the chunk claims to have."""
    write_image(tmp_path / "long.png", RGB16)
    data = bytearray((tmp_path / "long.png").read_bytes())
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    (tmp_path / "long.png").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"long\.png is truncated or damaged \(a chunk is cut short\)"):
        read_image(tmp_path / "long.png")


def sound_files(folder: Path) -> list[bytes]:
    files = []
    for name, pixels in (("a.png", RGB), ("b.png", RGB16), ("c.tif", RGB16), ("d.jpg", RGB), ("e.bmp", RGB)):
        write_image(folder / name, pixels)
        files.append((folder / name).read_bytes())
    for name in ("f.webp", "g.tif"):
        exif = PillowImage.Exif()
        exif[0x0112] = 6
        PillowImage.fromarray(RGB[:8, :8]).save(folder / name, exif=exif)
        files.append((folder / name).read_bytes())
    return files


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_an_image_or_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    sound = bytearray(data.draw(st.sampled_from(sound_files(tmp_path))))
    for _ in range(data.draw(st.integers(1, 6))):
        head = data.draw(st.booleans())
        place = data.draw(st.integers(0, min(len(sound), 200 if head else len(sound)) - 1))
        sound[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzz.bin"
    path.write_bytes(bytes(sound))
    with contextlib.suppress(DataError):
        image = read_image(path, max_pixels=100_000)
        assert image.shape == (*image_size(path), 3)


def test_mask_is_brighter_than_half(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(tmp_path / "m.png", ramp)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", size=(16, 16)), ramp > 127)
    deep = (np.arange(256) * 257).astype(np.uint16).reshape(16, 16)
    write_image(tmp_path / "m.tif", deep)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), ramp > 127)
    PillowImage.fromarray(ramp > 40).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), ramp > 40)
    red = np.zeros((16, 16, 3), np.uint8)
    red[3:5, 6:9, 0] = 255
    write_image(tmp_path / "red.png", red)
    np.testing.assert_array_equal(read_mask(tmp_path / "red.png"), red[..., 0] > 0)


def test_mask_of_class_numbers(tmp_path: Path) -> None:
    classes = np.zeros((8, 9), np.uint8)
    classes[2:4, 3:6] = 1
    classes[5, 1] = 3
    write_image(tmp_path / "classes.png", classes)
    np.testing.assert_array_equal(read_mask(tmp_path / "classes.png"), classes > 0)
    write_image(tmp_path / "noise.jpg", np.full((8, 9), 4, np.uint8))
    assert not read_mask(tmp_path / "noise.jpg").any()
    write_image(tmp_path / "none.png", np.zeros((8, 9), np.uint8))
    assert not read_mask(tmp_path / "none.png").any()


def test_mask_of_another_size(tmp_path: Path) -> None:
    write_image(tmp_path / "m.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(
        DataError, match=r"m\.png is a mask of 8×9 pixels \(height × width\), but its image has 9×8\. Give"
    ):
        read_mask(tmp_path / "m.png", size=(9, 8))


def test_fingerprint_is_of_the_bytes(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    write_image(tmp_path / "c.bmp", RGB)
    assert content_fingerprint(tmp_path / "a.png") == content_fingerprint(tmp_path / "b.png")
    assert content_fingerprint(tmp_path / "a.png") != content_fingerprint(tmp_path / "c.bmp")
    with pytest.raises(DataError, match="does not exist"):
        content_fingerprint(tmp_path / "gone.png")
