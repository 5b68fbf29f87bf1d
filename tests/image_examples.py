"""Images in 8 and 16 bits, PNG files with 16-bit colour, noise, and a comparison of a file with its pixels."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import image_size, read_image, write_image

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


def make_images(folder: Path, count: int) -> list[Path]:
    """Write images of noise that differ in content and height."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        write_image(path, rng.integers(0, 256, (10 + index, 12, 3)).astype(np.uint8))
    return paths
