"""Downloads torchvision's weights into the user's cache: complete and checked, or not at all."""

import logging
import os
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import urlopen

from platformdirs import user_cache_path

from blemish.errors import WeightsError
from blemish.files import locked, remove_stored, sha256_of, whole_file
from blemish.messages import message

logger = logging.getLogger("blemish")


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """A weights file of torchvision (ImageNet-1k, first version of the weights)."""

    name: str
    sha256: str
    """In hexadecimal. If only its first 8 digits are published (in the file's name), these are compared:
    enough to detect damage, but not a forged file."""


OFFICIAL: dict[str, OfficialFile] = {
    "resnet18": OfficialFile(
        "resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
    ),
    "resnet34": OfficialFile(
        "resnet34-b627a593.pth", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"
    ),
    "resnet50": OfficialFile(
        "resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"
    ),
    "resnet101": OfficialFile(
        "resnet101-63fe2227.pth", "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"
    ),
    "resnet152": OfficialFile(
        "resnet152-394f9c45.pth", "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58"
    ),
    "wide_resnet50_2": OfficialFile("wide_resnet50_2-95faca4d.pth", "95faca4d"),
    "wide_resnet101_2": OfficialFile("wide_resnet101_2-32ee1156.pth", "32ee1156"),
}
ADDRESS = "https://download.pytorch.org/models"
LARGEST_DOWNLOAD = 2**30
TIMEOUT_SECONDS = 30.0
"""Maximum time without any data."""
LONGEST_DOWNLOAD_SECONDS = 3600.0
CHUNK = 2**20


def cache_folder() -> Path:
    """Folder of downloaded weights."""
    return user_cache_path("blemish", appauthor=False) / "weights"


def download(name: str) -> Path:
    """Download the official file into the cache; the file appears complete and checked, or not at all."""
    official = OFFICIAL.get(name)
    file = official.name if official else f"{name}.safetensors"
    folder = os.environ.get("BLEMISH_WEIGHTS") or message("not set")
    absent = message(
        "No pretrained weights for {name}: {file} is not in {cache} or $BLEMISH_WEIGHTS ({folder})",
        name=name,
        file=file,
        cache=cache_folder(),
        folder=folder,
    )
    remedy = message("Put the file into one of these folders.")
    if official is None:
        raise WeightsError(
            "{absent}, and there is no address to download it from. {remedy}", absent=absent, remedy=remedy
        )
    url = f"{(os.environ.get('BLEMISH_WEIGHTS_URL') or ADDRESS).rstrip('/')}/{official.name}"
    try:
        _fetch(url, official)
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(
            "{absent}, and downloading {url} failed: {error}. {remedy}",
            absent=absent,
            url=url,
            error=error,
            remedy=remedy,
        ) from error
    return cache_folder() / official.name


def _fetch(url: str, official: OfficialFile) -> None:
    folder = cache_folder()
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(message("the address must start with http:// or https://"))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_stored(folder, (), ())  # what a killed download left
        if (folder / official.name).exists():  # another process has downloaded it meanwhile
            return
        with whole_file(folder / official.name) as temporary:
            with temporary.open("wb") as file:
                _stream(url, file)
            if not (digest := sha256_of(temporary)).startswith(official.sha256):
                raise ValueError(
                    message(
                        "its sha256 is {digest}, expected {sha256}", digest=digest, sha256=official.sha256
                    )
                )


def _stream(url: str, file: BinaryIO) -> None:
    """Copy the content of an address into a file."""
    with urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310  # the scheme has been checked
        promised: int | None = response.length
        size = "unknown size" if promised is None else f"{promised / 1e6:.0f} MB"
        logger.warning("Downloading %s (%s) into %s", url, size, cache_folder())
        received, end = 0, time.monotonic() + LONGEST_DOWNLOAD_SECONDS
        while chunk := response.read1(CHUNK):  # returns what has arrived, so that slow servers meet the limit
            received += len(chunk)
            if time.monotonic() > end:
                raise ValueError(
                    message(
                        "it takes longer than {longest_download_seconds:.0f} seconds",
                        longest_download_seconds=LONGEST_DOWNLOAD_SECONDS,
                    )
                )
            if max(received, promised or 0) > LARGEST_DOWNLOAD:
                raise ValueError(
                    message("it is larger than {largest_download} bytes", largest_download=LARGEST_DOWNLOAD)
                )
            file.write(chunk)
    if promised is not None and received != promised:
        raise ValueError(
            message(
                "the connection was cut after {received} of {promised} bytes",
                received=received,
                promised=promised,
            )
        )
