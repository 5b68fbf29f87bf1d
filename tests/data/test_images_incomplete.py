"""Images that lack some of their pixels, which decoders leave black, are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from blemish.data.images import read_image
from blemish.data.png import ADAM7
from blemish.errors import DataError
from image_examples import png_chunk

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(width: int, height: int, colour: int, bits: int, data: bytes, interlaced: bool = False) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced)))
    palette = png_chunk(b"PLTE", bytes(range(3 * 2 ** min(bits, 4)))) if colour == 3 else b""
    body = png_chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + header + palette + body + png_chunk(b"IEND", b"")


def rows(width: int, height: int, colour: int, bits: int) -> list[bytes]:
    """Black rows."""
    return [bytes(1 + -(-width * bits * CHANNELS[colour] // 8))] * height


@given(
    width=st.integers(1, 20),
    height=st.integers(2, 20),
    kind=st.sampled_from([(0, 1), (0, 4), (0, 8), (2, 8), (3, 2), (3, 8), (4, 8), (6, 8)]),
    interlaced=st.booleans(),
    missing=st.integers(0, 3),
)
def test_a_png_without_its_last_rows_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    kind: tuple[int, int],
    interlaced: bool,
    missing: int,
) -> None:
    colour, bits = kind
    if interlaced:
        sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in ADAM7]
        parts = [row for w, h in sizes if w and h for row in rows(w, h, colour, bits)]
    else:
        parts = rows(width, height, colour, bits)
    data = b"".join(parts[: len(parts) - missing])
    path = tmp_path_factory.mktemp("png") / "part.png"
    path.write_bytes(png(width, height, colour, bits, data, interlaced))
    if missing:
        with pytest.raises(DataError, match=r"part\.png is truncated or damaged"):
            read_image(path)
    else:
        assert read_image(path).shape == (height, width, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tag", [273, 279], ids=["offset", "size"])
def test_a_tiff_of_which_a_strip_was_never_written_is_refused(tmp_path: Path, dtype: type, tag: int) -> None:
    path = tmp_path / "part.tif"
    tifffile.imwrite(path, np.full((16, 8), 9, dtype), rowsperstrip=4)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages.first.tags[tag].valueoffset
        size = {3: 2, 4: 4, 16: 8}[int(tiff.pages.first.tags[tag].dtype)]
    data = bytearray(path.read_bytes())
    data[place + size : place + 2 * size] = bytes(size)
    path.write_bytes(bytes(data))
    with pytest.raises(
        DataError, match=r"part\.tif is truncated or damaged \(a part of its pixels was never"
    ):
        read_image(path)
