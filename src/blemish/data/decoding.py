"""Decodes the bytes of a PNG, JPEG, BMP, TIFF or WebP file: first the header, then the pixels.

The content determines the format, not the name. Grey, palette, CMYK, YCbCr and 1-bit images become RGB. Alpha is
dropped, not composited, since the colour under it is the camera's. 16-bit images stay 16-bit. EXIF orientation is
applied once. Colour profiles are ignored.
"""

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from typing import cast

import numpy as np
import simplejpeg
import tifffile
from PIL import Image as PillowImage
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from blemish.data.png import png_exif, require_all_rows
from blemish.messages import message
from blemish.opencv import cv2
from blemish.types import Image

# The plug-ins are called directly: PIL.Image.open would try forty formats and limit the size by a global setting,
# which still refuses a WebP above 178 million pixels.
_PLUGINS: dict[str, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
}
_ORIENTATION_TAG = 0x0112

# Damaged metadata does not affect the pixels. The filters are set once, because warnings.catch_warnings is not
# thread-safe and threads decode.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Png)ImagePlugin")
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class RefusedError(Exception):
    """A file is refused; the text continues a sentence that begins with the file's path."""


@dataclass(frozen=True)
class Header:
    """The properties of an image file that are known before any pixel is decoded."""

    kind: str
    height: int
    width: int
    """As stored, before orientation."""
    orientation: int
    """EXIF 1 to 8."""
    bits: int
    frames: int
    plain: bytes
    """The file's bytes; the orientation of a TIFF is reset so that no decoder applies it a second time."""


def read_header(data: bytes) -> Header:
    """The header of an image file.

    Raises:
        RefusedError: The bytes are not an image of a supported format.
    """
    kind = _recognise(data)
    if kind == "TIFF":
        return _read_tiff_header(data)
    image = _PLUGINS[kind](io.BytesIO(data))
    return Header(
        kind=kind,
        height=image.height,
        width=image.width,
        orientation=_orientation(_exif_of(image, data)),
        bits=data[24] if kind == "PNG" else 8,
        frames=getattr(image, "n_frames", 1),
        plain=data,
    )


def exif_of(data: bytes) -> bytes:
    """The block of EXIF data of an image file, which has the form of a TIFF; a TIFF is one itself.

    Raises:
        RefusedError: The bytes are not an image of a supported format.
    """
    kind = _recognise(data)
    return data if kind == "TIFF" else _exif_of(_PLUGINS[kind](io.BytesIO(data)), data)


def _exif_of(image: ImageFile, data: bytes) -> bytes:
    exif: bytes = png_exif(data) if isinstance(image, PngImageFile) else image.info.get("exif", b"")
    return exif


def begins_like_an_image(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a supported format, or of a GIF."""
    return _kind_of(head) is not None


def _kind_of(data: bytes) -> str | None:
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
    return "GIF" if data.startswith(b"GIF8") else None


def _recognise(data: bytes) -> str:
    if not data:
        raise RefusedError(message("is empty (0 bytes). Copy it again from its source or remove it."))
    kind = _kind_of(data)
    if kind == "GIF":
        raise RefusedError(message("is a GIF, which is not supported. Save the image that you need as PNG."))
    if kind is None:
        raise RefusedError(
            message(
                "is not a PNG, JPEG, BMP, TIFF or WebP image, whatever its name. Convert it or remove it."
            )
        )
    return kind


def _read_tiff_header(data: bytes) -> Header:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        bits = int(page.bitspersample)
        if page.sampleformat != 1 or bits not in {1, 2, 4, 8, 16}:
            number = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(int(page.sampleformat), "unusual")
            raise RefusedError(
                message(
                    "is a TIFF of {number} {bits}-bit numbers, whose range is not known. "
                    "Save it with unsigned 8 or 16 bits.",
                    number=number,
                    bits=bits,
                )
            )
        if not all((*page.dataoffsets, *page.databytecounts)):
            raise ValueError(message("a part of its pixels was never written"))
        orientation, plain = 1, data
        tag = page.tags.get(_ORIENTATION_TAG)
        if tag is not None:
            orientation = _valid_orientation(tag.value)
            upright = struct.pack(tiff.byteorder + {1: "B", 3: "H", 4: "I"}[int(tag.dtype)], 1)
            plain = data[: tag.valueoffset] + upright + data[tag.valueoffset + len(upright) :]
        return Header("TIFF", page.imagelength, page.imagewidth, orientation, bits, len(tiff.pages), plain)


def _orientation(exif: bytes) -> int:
    """EXIF orientation; upright if the block is missing or damaged."""
    if not exif:
        return 1
    tags = PillowImage.Exif()
    try:
        tags.load(exif)
        return _valid_orientation(tags.get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata does not affect the pixels
        return 1


def _valid_orientation(value: object) -> int:
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def oriented_size(header: Header) -> tuple[int, int]:
    """(H, W) after orientation."""
    size = (header.height, header.width)
    return size if header.orientation < 5 else size[::-1]


def decode(header: Header) -> Image:
    """The pixels (H, W, 3), upright, uint8 or uint16."""
    if header.kind == "JPEG":
        pixels = _decode_jpeg(header)
    elif header.bits != 16:
        pixels = _decode_8bit(header)
    elif header.kind == "TIFF":
        pixels = _decode_16bit_tiff(header.plain)
    else:
        pixels = _decode_with_opencv(header.plain)
    return cast(Image, np.array(_turn_upright(pixels, header.orientation), order="C"))


def _decode_jpeg(header: Header) -> Image:
    """Decode with libjpeg's warnings as errors; Pillow and OpenCV return grey areas for damaged data in silence."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(header.plain)
    except ValueError as error:
        if "subsampling" not in str(error):
            raise
        return _decode_8bit(header)  # it knows the usual subsamplings only
    if (height, width) != (header.height, header.width):
        raise ValueError(message("it states two different sizes"))
    has_ink = colours in {"CMYK", "YCCK"}
    pixels = simplejpeg.decode_jpeg(
        header.plain, "CMYK" if has_ink else "RGB", fastdct=False, fastupsample=False
    )
    if has_ink:  # stored inverted, as by Adobe's programs
        ink = PillowImage.frombytes("CMYK", (header.width, header.height), (255 - pixels).tobytes())
        return np.asarray(ink.convert("RGB"), np.uint8)
    return np.asarray(pixels, np.uint8)


def _decode_8bit(header: Header) -> Image:
    image = (TiffImageFile if header.kind == "TIFF" else _PLUGINS[header.kind])(io.BytesIO(header.plain))
    if image.size != (header.width, header.height):
        raise ValueError(message("it states two different sizes"))
    if header.kind == "TIFF":
        # If the memory is allocated beforehand, Pillow does not apply its own global limit of the size.
        image.im = PillowImage.new(image.mode, image.size).im
    image.load()
    image.info.pop("transparency", None)
    if header.kind == "PNG":
        require_all_rows(header.plain, image)
    straight = image.convert("LA") if image.mode == "La" else image
    return np.asarray(straight.convert("RGB"), np.uint8)


def _decode_with_opencv(data: bytes) -> Image:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError(message("the 16-bit decoder failed"))
    if pixels.ndim == 2:
        return cast(Image, np.stack([pixels] * 3, axis=2))
    return cast(Image, pixels[..., 2::-1])


def _decode_16bit_tiff(data: bytes) -> Image:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        photometric, samples = int(page.photometric), page.samplesperpixel
        colours = {0: 1, 1: 1, 2: 3, 5: 4}.get(photometric, 0)
        if not colours or not colours <= samples <= colours + 1 or page.imagedepth != 1:
            raise RefusedError(
                message("is a 16-bit TIFF that is neither grey nor RGB nor CMYK. Save it as RGB.")
            )
        try:
            raw = page.asarray().reshape(page.shaped)[:, 0]  # (planes, H, W, samples): one of the two is 1
        except ValueError as error:
            # LZW needs tifffile's optional codecs; OpenCV has its own, for grey and RGB.
            if "imagecodecs" not in str(error):
                raise
            if page.planarconfig != 1 or photometric not in {1, 2}:
                raise RefusedError(
                    message("is a 16-bit TIFF with an unsupported compression. Save it uncompressed.")
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
