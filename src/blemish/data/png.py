"""The chunks of a PNG file: what Pillow does not check."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL.Image import Image

from blemish.messages import message

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top, and steps across and down of the pixels of each pass of an interlaced PNG."""


def png_exif(data: bytes) -> bytes:
    """The eXIf chunk, which may come before or after the pixels.

    The length of every chunk is checked against the file's: OpenCV would allocate up to 4 GB for a false one.
    """
    exif = b""
    for name, body in chunks(data):
        if name == b"eXIf":
            exif = bytes(body)
    return exif


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and body of each chunk of a PNG."""
    name, position = b"", 8
    while name != b"IEND":
        length, name = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\xff"))
        body = position + 8
        position = body + length + 4
        if position > len(data):
            raise ValueError(message("a chunk is cut short"))
        yield name, memoryview(data)[body : body + length]


def require_all_rows(data: bytes, image: Image) -> None:
    """Check that a PNG holds data for all rows: Pillow leaves missing ones black, so only such images are counted.

    Raises:
        ValueError: If rows are missing.
    """
    is_interlaced = data[28] == 1
    if not is_interlaced and np.asarray(image)[-1, -1].any():
        return
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    passes = ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -((left - image.width) // across), -((top - image.height) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * bits // 8))
    stream, found = zlib.decompressobj(), 0
    waiting = b"".join(body for name, body in chunks(data) if name == b"IDAT")
    while waiting and not stream.eof and found < expected:
        found += len(stream.decompress(waiting, 2**20))
        waiting = stream.unconsumed_tail
    if found < expected:
        raise ValueError(message("its data end before its last row"))
