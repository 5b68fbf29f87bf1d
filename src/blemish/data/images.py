"""Reads and writes image files; `decoding` decodes their bytes."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from blemish.data.decoding import Header, RefusedError, decode, oriented_size, read_header
from blemish.errors import DataError
from blemish.files import sha256_of, write_whole
from blemish.messages import message
from blemish.opencv import cv2
from blemish.types import Image, Mask

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of the formats that are read and written, in lower case."""

DEFAULT_MAX_PIXELS = 200_000_000
"""Maximum size of an image unless `max_pixels` or the environment variable BLEMISH_MAX_PIXELS is set."""


def read_image(path: Path | str, *, max_pixels: int | None = None) -> Image:
    """The pixels of a file, (H, W, 3) RGB, uint8 or uint16.

    16-bit values are not rescaled, even if a camera uses only 12 of the bits.

    Args:
        path: File of any name; its content determines the format.
        max_pixels: Larger images are refused before decoding; default BLEMISH_MAX_PIXELS or 200 million.

    Raises:
        DataError: The file is missing, damaged, not a still image, too large or of an unsupported depth.
    """
    path = Path(path)
    with _refusing(path):
        return decode(_accepted_header(path, max_pixels))


def read_mask(
    path: Path | str, *, size: tuple[int, int] | None = None, max_pixels: int | None = None
) -> Mask:
    """The defective pixels of a mask file, (H, W).

    A pixel is defective if its brightest channel is above half of the type's range. If no pixel is, the values
    (except in JPEG) are class numbers, as in VisA: every value above zero is defective.

    Args:
        path: File in a format of images.
        size: Required (H, W), that of the image.
        max_pixels: As for `read_image`.

    Raises:
        DataError: As for `read_image`, or the size differs.
    """
    path = Path(path)
    with _refusing(path):
        header = _accepted_header(path, max_pixels)
        actual = oriented_size(header)
        if size is not None and actual != tuple(size):
            raise RefusedError(
                message(
                    "is a mask of {height}×{width} pixels (height × width), but its image has "
                    "{image_height}×{image_width}. Give the mask the size of its image.",
                    height=actual[0],
                    width=actual[1],
                    image_height=size[0],
                    image_width=size[1],
                )
            )
        brightness = decode(header).max(axis=2)
    half = int(np.iinfo(brightness.dtype).max) // 2
    if header.kind != "JPEG" and brightness.max() <= half:
        half = 0
    return np.asarray(brightness > half)


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) of the image that `read_image` returns, from the header alone.

    Raises:
        DataError: The file is missing or no image, or its header is damaged.
    """
    path = Path(path)
    with _refusing(path):
        return oriented_size(read_header(_read_bytes(path)))


def write_image(
    path: Path | str, array: NDArray[np.uint8] | NDArray[np.uint16] | Mask, *, comment: str = ""
) -> None:
    """Write an image in the format of its suffix; the file appears whole or not at all.

    Args:
        path: File in an existing folder.
        array: (H, W) or (H, W, 3) RGB, uint8 or uint16 (PNG and TIFF only), or a mask, written as 0 and 255.
        comment: Text stored in a JPEG; other formats are written without.

    Raises:
        ValueError: The array or the suffix cannot be written.
        DataError: The image is larger than the format can be.
    """
    path = Path(path)
    pixels = cast(Image, array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array)
    suffix = path.suffix.lower()
    deep = suffix in {".png", ".tif", ".tiff"}
    if pixels.dtype != np.uint8 and not (deep and pixels.dtype == np.uint16):
        raise ValueError(
            message(
                "{name}: {dtype} pixels cannot be written. Use uint8, or uint16 as PNG or TIFF.",
                name=path.name,
                dtype=array.dtype,
            )
        )
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or pixels.size == 0:
        raise ValueError(
            message(
                "{name}: an image must be (H, W) or (H, W, 3) and not empty, got {shape}.",
                name=path.name,
                shape=array.shape,
            )
        )
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(
            message("{name}: an image's suffix must be that of PNG, JPEG, BMP, TIFF or WebP.", name=path.name)
        )
    encoded = encode(pixels, ".jpg" if suffix == ".jfif" else suffix)
    if encoded is None:
        raise DataError(
            "{name}: {width}×{height} pixels are too many for this format. Write a PNG.",
            name=path.name,
            width=pixels.shape[1],
            height=pixels.shape[0],
        )
    write_whole(path, _with_comment(encoded, comment) if comment else encoded)


def encode(pixels: Image, suffix: str, quality: Sequence[int] = ()) -> bytes | None:
    """The bytes of an image (H, W) or (H, W, 3) RGB in the format of a suffix; None if the format cannot hold it.

    Args:
        pixels: uint8 or uint16.
        suffix: With the dot.
        quality: OpenCV's parameters for the format.
    """
    try:
        done, encoded = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels, quality)
    except cv2.error:
        return None
    return encoded.tobytes() if done else None


def _with_comment(encoded: bytes, comment: str) -> bytes:
    """A JPEG with a comment behind its first segment; other formats unchanged."""
    if not encoded.startswith(b"\xff\xd8"):
        return encoded
    text = comment.encode()
    end = 4 + int.from_bytes(encoded[4:6], "big")
    return encoded[:end] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + encoded[end:]


def content_fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hex: equal for copies, different for a re-encoded image.

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path)
    with _refusing(path), _opening(path):
        return sha256_of(path)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn any exception in the context into a DataError that names the file."""
    try:
        yield
    except RefusedError as error:
        raise DataError("{path} {error}", path=path, error=error) from None
    except PillowImage.DecompressionBombError as error:
        raise DataError("{path} is too large to decode: {error}", path=path, error=error) from None
    except Exception as error:  # a malicious file can make a decoder raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            "{path} is truncated or damaged ({reason}). Copy it again from its source or remove it.",
            path=path,
            reason=reason,
        ) from None


def _read_bytes(path: Path) -> bytes:
    with _opening(path):
        return path.read_bytes()


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Distinguish a file that cannot be opened from a damaged one."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RefusedError(_folder_problem(path))
        if not stat.S_ISREG(mode):  # reading a pipe or a device could wait for ever
            raise OSError(errno.EINVAL, "Not a regular file")
        yield
    except FileNotFoundError:
        raise RefusedError(message("does not exist. Check the path.")) from None
    except OSError as error:
        raise RefusedError(
            message(
                "cannot be opened: {strerror}. Check that it is a file that you may read.",
                strerror=error.strerror,
            )
        ) from None


def _folder_problem(path: Path) -> str:
    with suppress(OSError):
        if os.access(path, os.X_OK):
            os.scandir(path).close()
            return "is a folder, not an image. Name an image, or a folder that holds images."
    return "cannot be searched for images. Check that you may read the folder."


def _accepted_header(path: Path, max_pixels: int | None) -> Header:
    """The header of a file that holds one still image of at most `max_pixels`; others are refused."""
    header = read_header(_read_bytes(path))
    limit = _pixel_limit() if max_pixels is None else max_pixels
    if header.height * header.width > limit:
        raise RefusedError(
            message(
                "has {width}×{height} pixels by its header, more than the limit of {limit}. "
                "If that is right, raise the limit with the environment variable BLEMISH_MAX_PIXELS.",
                width=header.width,
                height=header.height,
                limit=limit,
            )
        )
    if header.frames > 1:
        raise RefusedError(
            message(
                "is an animated or multi-page {kind} of {frames} images. "
                "Save the image that you need as a separate file.",
                kind=header.kind,
                frames=header.frames,
            )
        )
    return header


def _pixel_limit() -> int:
    text = os.environ.get("BLEMISH_MAX_PIXELS", "")
    if not text:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or len(text) > 18 or int(text) == 0:
        raise RefusedError(
            message(
                "was not opened: BLEMISH_MAX_PIXELS is {text!r}. "
                "Set it to a whole number of pixels above 0, or unset it.",
                text=text,
            )
        )
    return int(text)
