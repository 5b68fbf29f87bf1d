"""When an image was taken, by its EXIF data."""

from datetime import datetime
from pathlib import Path

from PIL import Image as PillowImage

from blemish.data.decoding import exif_of

EXIF_DIRECTORY, ORIGINAL, FRACTION = 0x8769, 0x9003, 0x9291
"""Tags of the directory of EXIF data, and in it of DateTimeOriginal and SubSecTimeOriginal."""
FORMAT = "%Y:%m:%d %H:%M:%S"
DIGITS = 6
"""Digits of the fraction of a second that count."""


def capture_time(path: Path) -> datetime | None:
    """The camera's local time, to a microsecond if it is stated; None if there is none or it is damaged."""
    try:
        tags = PillowImage.Exif()
        tags.load(exif_of(path.read_bytes()))
        found = tags.get_ifd(EXIF_DIRECTORY)
        time = datetime.strptime(_text(found[ORIGINAL]), FORMAT)
        fraction = _text(found.get(FRACTION, ""))
        digits = fraction if fraction.isascii() and fraction.isdecimal() else ""
        return time.replace(microsecond=int(digits[:DIGITS].ljust(DIGITS, "0")))
    except Exception:  # hostile metadata can make a reader raise anything, and does not affect the pixels
        return None


def _text(value: object) -> str:
    return str(value).strip("\0 ")
