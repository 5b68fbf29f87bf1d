"""Reads and writes images: every decoding rule of blemish is in this file.

PNG, JPEG, BMP, TIFF and WebP, recognised by content, not by name. Grey, palette, CMYK, YCbCr and 1-bit
images become RGB. Alpha is dropped, not composited: the colour under it is what the camera saw. 16-bit
images stay 16-bit. EXIF orientation is applied once. Colour profiles are ignored.
"""

import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from blemish.errors import DataError
from blemish.files import sha256_of, write_whole
from blemish.types import Image, Mask

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
"""File names that count as images. GIF is among them so that it is refused with an error, not ignored."""

DEFAULT_MAX_PIXELS = 200_000_000
"""Largest image decoded unless `max_pixels` or the variable BLEMISH_MAX_PIXELS says otherwise."""

# The plug-ins are called directly: PIL.Image.open would guess among forty formats and judge the size by a
# global of its own. (That global still stops a WebP above 178 million pixels.)
_PLUGINS: dict[str, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
}
_ORIENTATION_TAG = 0x0112

# Damaged metadata does not affect the pixels, so the user is not warned. The filter stays installed, because
# warnings.catch_warnings is not safe in the threads that decode.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Png)ImagePlugin")
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class _RefusedError(Exception):
    """Why a file is not read: the end of a sentence that begins with its path."""


@dataclass(frozen=True)
class _Header:
    """What a file says of itself before any pixel is decoded."""

    kind: str
    height: int
    width: int
    """As stored, before orientation."""
    orientation: int
    """EXIF 1 to 8."""
    bits: int
    frames: int
    plain: bytes
    """The file, with the orientation of a TIFF neutralised so that no decoder applies it a second time."""


def is_image_file(path: Path) -> bool:
    """Whether a visible file is named like an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: Path | str, *, max_pixels: int | None = None) -> Image:
    """The pixels of a file, (H, W, 3) RGB, uint8 or uint16.

    16-bit files use the full range of uint16; a camera's 12 bits stored in them are not stretched.

    Args:
        path: Any name; the content decides the format.
        max_pixels: Refuse larger images before decoding; default 200 million or BLEMISH_MAX_PIXELS.

    Raises:
        DataError: The file is missing, damaged, not a still image, too large or of an unsupported depth.
    """
    path = Path(path)
    with _refusing(path):
        return _decode(_accepted_header(path, max_pixels))


def read_mask(
    path: Path | str, *, size: tuple[int, int] | None = None, max_pixels: int | None = None
) -> Mask:
    """The defective pixels that a mask file marks.

    A pixel whose brightest channel lies above half of the type's range is defective. Where no pixel does,
    the file (unless JPEG) is taken as class numbers, as VisA's are: every value above zero is defective.

    Args:
        path: Same formats as images.
        size: (H, W) that the mask must have: that of its image.
        max_pixels: As for `read_image`.

    Raises:
        DataError: As for `read_image`, or the mask has another size.
    """
    path = Path(path)
    with _refusing(path):
        header = _accepted_header(path, max_pixels)
        found = _oriented_size(header)
        if size is not None and found != tuple(size):
            raise _RefusedError(
                f"is a mask of {found[0]}×{found[1]} pixels (height × width), but its image has "
                f"{size[0]}×{size[1]}. Give the mask the size of its image."
            )
        brightness = _decode(header).max(axis=2)
    half = int(np.iinfo(brightness.dtype).max) // 2
    if header.kind != "JPEG" and brightness.max() <= half:
        half = 0
    return np.asarray(brightness > half)


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) as `read_image` would return it, from the header alone.

    Raises:
        DataError: The file is missing, damaged in its header or no image.
    """
    path = Path(path)
    with _refusing(path):
        return _oriented_size(_read_header(_read_bytes(path)))


def write_image(path: Path | str, array: NDArray[np.uint8] | NDArray[np.uint16] | Mask) -> None:
    """Write an image in the format of its suffix; the file appears whole or not at all.

    Args:
        path: Its folder must exist.
        array: (H, W) or (H, W, 3) RGB, uint8 or uint16 (PNG and TIFF only), or a mask, written as 0 and 255.

    Raises:
        ValueError: The array or the suffix cannot be written.
    """
    path = Path(path)
    pixels = cast(Image, array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array)
    deep = path.suffix.lower() in {".png", ".tif", ".tiff"}
    if pixels.dtype != np.uint8 and not (deep and pixels.dtype == np.uint16):
        raise ValueError(
            f"{path.name}: {array.dtype} pixels cannot be written; use uint8, or uint16 as PNG or TIFF."
        )
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or pixels.size == 0:
        raise ValueError(f"{path.name}: an image is (H, W) or (H, W, 3) and not empty, got {array.shape}.")
    if path.suffix.lower() not in IMAGE_SUFFIXES - {".gif"}:
        raise ValueError(f"{path.name}: images are written as PNG, JPEG, BMP, TIFF or WebP; name it so.")
    encoded = cv2.imencode(path.suffix.lower(), pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1]
    write_whole(path, encoded.tobytes())


def content_fingerprint(path: Path | str) -> str:
    """SHA-256 of the file's bytes, in hex: equal for copies, different for a re-encoded image.

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path)
    with _refusing(path), _opening():
        return sha256_of(path)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into one error that names the file."""
    try:
        yield
    except _RefusedError as error:
        raise DataError(f"{path} {error}") from None
    except PillowImage.DecompressionBombError as error:
        raise DataError(f"{path} is too large to decode: {error}") from None
    except Exception as error:  # a hostile file can make a decoder raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is truncated or damaged ({reason}). Copy it again from its source or remove it."
        ) from None


def _read_bytes(path: Path) -> bytes:
    with _opening():
        return path.read_bytes()


@contextmanager
def _opening() -> Iterator[None]:
    """Tell a file that cannot be opened from one that is damaged."""
    try:
        yield
    except FileNotFoundError:
        raise _RefusedError("does not exist. Check the path.") from None
    except OSError as error:
        raise _RefusedError(
            f"cannot be opened: {error.strerror}. Check that it is a file you may read."
        ) from None


def _accepted_header(path: Path, max_pixels: int | None) -> _Header:
    """The header of a file that may be decoded: one still image within the limit."""
    header = _read_header(_read_bytes(path))
    limit = _pixel_limit() if max_pixels is None else max_pixels
    if header.height * header.width > limit:
        raise _RefusedError(
            f"says it has {header.width}×{header.height} pixels, more than the limit of {limit}. "
            "If it is meant, raise the limit with the environment variable BLEMISH_MAX_PIXELS."
        )
    if header.frames > 1:
        raise _RefusedError(
            f"is an animated or multi-page {header.kind} of {header.frames} images. "
            "Save the one wanted as a file of its own."
        )
    return header


def _pixel_limit() -> int:
    text = os.environ.get("BLEMISH_MAX_PIXELS", "")
    if not text:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise _RefusedError(
            f"was not opened: BLEMISH_MAX_PIXELS is {text!r}. "
            "Set it to a whole number of pixels above 0, or unset it."
        )
    return int(text)


def _read_header(data: bytes) -> _Header:
    kind = _recognise(data)
    if kind == "TIFF":
        return _read_tiff_header(data)
    image = _PLUGINS[kind](io.BytesIO(data))
    exif = _png_exif(data) if kind == "PNG" else image.info.get("exif", b"")
    return _Header(
        kind=kind,
        height=image.height,
        width=image.width,
        orientation=_orientation(exif),
        bits=data[24] if kind == "PNG" else 8,
        frames=getattr(image, "n_frames", 1),
        plain=data,
    )


def _recognise(data: bytes) -> str:
    if not data:
        raise _RefusedError("is empty (0 bytes). Copy it again from its source or remove it.")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"BM"):
        return "BMP"
    if data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"GIF8"):
        raise _RefusedError("is a GIF, a format for animations. Save the image wanted as PNG.")
    raise _RefusedError(
        "is not a PNG, JPEG, BMP, TIFF or WebP image, whatever its name. Convert it or remove it."
    )


def _read_tiff_header(data: bytes) -> _Header:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        bits = int(page.bitspersample)
        if page.sampleformat != 1 or bits not in {1, 2, 4, 8, 16}:
            number = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(int(page.sampleformat), "unusual")
            raise _RefusedError(
                f"is a TIFF of {number} {bits}-bit numbers, whose range is not known. "
                "Save it with unsigned 8 or 16 bits."
            )
        orientation, plain = 1, data
        tag = page.tags.get(_ORIENTATION_TAG)
        if tag is not None:
            orientation = _valid_orientation(tag.value)
            upright = struct.pack(tiff.byteorder + {1: "B", 3: "H", 4: "I"}[int(tag.dtype)], 1)
            plain = data[: tag.valueoffset] + upright + data[tag.valueoffset + len(upright) :]
        return _Header("TIFF", page.imagelength, page.imagewidth, orientation, bits, len(tiff.pages), plain)


def _png_exif(data: bytes) -> bytes:
    """The eXIf chunk, which may also stand behind the pixels.

    The walk to the last chunk proves that none claims to be longer than the file: OpenCV would reserve up
    to 4 GB for such a claim.
    """
    exif, name, position = b"", b"", 8
    while name != b"IEND":
        length, name = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\xff"))
        body = position + 8
        position = body + length + 4
        if position > len(data):
            raise ValueError("a chunk is cut short")
        if name == b"eXIf":
            exif = data[body : body + length]
    return exif


def _orientation(exif: bytes) -> int:
    """EXIF orientation, upright where the block is missing or damaged."""
    if not exif:
        return 1
    tags = PillowImage.Exif()
    try:
        tags.load(exif)
        return _valid_orientation(tags.get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata does not make the pixels worse
        return 1


def _valid_orientation(value: object) -> int:
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _oriented_size(header: _Header) -> tuple[int, int]:
    size = (header.height, header.width)
    return size if header.orientation < 5 else size[::-1]


def _decode(header: _Header) -> Image:
    if header.bits != 16:
        pixels = _decode_8bit(header)
    elif header.kind == "TIFF":
        pixels = _decode_16bit_tiff(header.plain)
    else:
        pixels = _decode_with_opencv(header.plain)
    return cast(Image, np.array(_turn_upright(pixels, header.orientation), order="C"))


def _decode_8bit(header: _Header) -> Image:
    image = (TiffImageFile if header.kind == "TIFF" else _PLUGINS[header.kind])(io.BytesIO(header.plain))
    if image.size != (header.width, header.height):
        raise ValueError("it states its size twice, and differently")
    if header.kind == "TIFF":
        # Room given beforehand keeps Pillow from judging the size by its own global limit.
        image.im = PillowImage.new(image.mode, image.size).im
    image.load()
    image.info.pop("transparency", None)
    straight = image.convert("LA") if image.mode == "La" else image
    return np.asarray(straight.convert("RGB"), np.uint8)


def _decode_with_opencv(data: bytes) -> Image:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("the 16-bit decoder gave up")
    if pixels.ndim == 2:
        return cast(Image, np.stack([pixels] * 3, axis=2))
    return cast(Image, pixels[..., 2::-1])


def _decode_16bit_tiff(data: bytes) -> Image:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        photometric, samples = int(page.photometric), page.samplesperpixel
        colours = {0: 1, 1: 1, 2: 3, 5: 4}.get(photometric, 0)
        if not colours or not colours <= samples <= colours + 1 or page.imagedepth != 1:
            raise _RefusedError("is a 16-bit TIFF that is neither grey nor RGB nor CMYK. Save it as RGB.")
        try:
            raw = page.asarray().reshape(page.shaped)[:, 0]  # (planes, H, W, samples): one of the two is 1
        except ValueError as error:
            # LZW needs tifffile's optional codecs; OpenCV brings its own, for grey and RGB.
            if "imagecodecs" not in str(error):
                raise
            if page.planarconfig != 1 or photometric not in {1, 2}:
                raise _RefusedError(
                    "is a 16-bit TIFF compressed in a rare way. Save it uncompressed."
                ) from None
            return _decode_with_opencv(data)
        pixels = np.moveaxis(raw, 0, -1).reshape(page.imagelength, page.imagewidth, samples)[..., :colours]
    if photometric == 5:
        ink = pixels.astype(np.uint32)
        return ((65535 - ink[..., :3]) * (65535 - ink[..., 3:]) // 65535).astype(np.uint16)
    if photometric == 0:  # white is zero
        pixels = 65535 - pixels
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint16)


def _turn_upright(pixels: Image, orientation: int) -> Image:
    """Undo an EXIF orientation: 5 to 8 are stored transposed, the others only mirrored."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels
