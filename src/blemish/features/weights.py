"""Finds, downloads and reads pretrained weights.

They are searched in the folder `$BLEMISH_WEIGHTS`, in the user's cache and in the package itself, in this order,
and otherwise downloaded into the cache. In a folder, `NAME.safetensors` (torchvision's tensor names) is preferred to
torchvision's own file. `$BLEMISH_WEIGHTS_URL` is another address to download the same files from, such as a mirror
inside the factory.
"""

import logging
import os
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import urlopen

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

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
EMBEDDED = Path(__file__).parent
LARGEST_DOWNLOAD = 2**30
TIMEOUT_SECONDS = 30.0
"""Maximum time without any data."""
LONGEST_DOWNLOAD_SECONDS = 3600.0
CHUNK = 2**20
ZIP_START = b"PK\x03\x04"
DTYPES = (torch.float32, torch.float16, torch.int64)
"""Allowed types of the tensors in a file."""

_quiet = threading.Lock()
"""Held while warnings are off, because `warnings.catch_warnings` is not thread-safe."""
_loads = ContextVar("loads_pretrained", default=True)


def loads_pretrained() -> bool:
    """Whether a new backbone loads pretrained weights; see `without_pretrained`."""
    return _loads.get()


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build backbones without pretrained weights, because a model folder provides them."""
    token = _loads.set(False)
    try:
        yield
    finally:
        _loads.reset(token)


def cache_folder() -> Path:
    """Folder of downloaded weights."""
    return user_cache_path("blemish", appauthor=False) / "weights"


def folders() -> tuple[Path, ...]:
    """Folders in which weights are searched, in this order."""
    folder = os.environ.get("BLEMISH_WEIGHTS")
    return (*([Path(folder)] if folder else []), cache_folder(), EMBEDDED)


def pretrained_state(
    name: str, shapes: Mapping[str, tuple[int, ...]], file: Path | None = None
) -> dict[str, Tensor]:
    """The pretrained tensors of network `name` that `shapes` names; the file may hold more.

    Args:
        name: The network.
        shapes: Name and shape of each tensor.
        file: A file of the user's; without one, it is searched.

    Raises:
        WeightsError: If no file is found and downloading fails, or the file is damaged or does not fit.
    """
    path = file or _find(name) or _download(name)
    state = _read(path, None if file else name)
    missing = [key for key in shapes if key not in state]
    if len(missing) > len(shapes) / 2:
        held = ", ".join([*state][:3]) or message("nothing")
        raise WeightsError(
            "{path} holds other tensors than {name} has: {held}, … instead of {missing}, …. Give a state dict of "
            "{name} with torchvision's names, without a prefix.",
            path=path,
            name=name,
            held=held,
            missing=missing[0],
        )
    if missing:
        more = message(" and {count} other tensors", count=len(missing) - 1) if len(missing) > 1 else ""
        raise WeightsError(
            "{path} lacks {missing} of shape {shape_needed}{more}. "
            "Request earlier layers of {name}, or replace the file with one that has all tensors.",
            path=path,
            missing=missing[0],
            shape_needed=tuple(shapes[missing[0]]),
            more=more,
            name=name,
        )
    for key, shape in shapes.items():
        if tuple(state[key].shape) != tuple(shape):
            raise WeightsError(
                "{path} holds {key} with shape {found}, but {name} needs {shape}. "
                "Replace the file with one of {name}.",
                path=path,
                key=key,
                found=tuple(state[key].shape),
                name=name,
                shape=tuple(shape),
            )
        if state[key].dtype not in DTYPES:
            raise WeightsError(
                "{path} holds {key} as {dtype}, expected float32, float16 or int64. Replace the file.",
                path=path,
                key=key,
                dtype=state[key].dtype,
            )
        if not state[key].isfinite().all():
            raise WeightsError(
                "{path} holds NaN or infinity in {key}. Replace it with an undamaged file.",
                path=path,
                key=key,
            )
    return {key: state[key] for key in shapes}


def _find(name: str) -> Path | None:
    files = [f"{name}.safetensors"]
    if name in OFFICIAL:
        files.append(OFFICIAL[name].name)
    candidates = [folder / file for folder in folders() for file in files]
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path, official: str | None) -> dict[str, Tensor]:
    """The tensors of a file, which must be that of the official network, if one is named."""
    if not path.is_file():
        raise WeightsError("{path} is not a file. Check the path after @ in the backbone's name.", path=path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if official:
            _check_sha256(path, OFFICIAL[official].sha256)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            "{path} cannot be read: {error}. Replace it with an undamaged file.", path=path, error=error
        ) from error
    return read_torch_file(path)


def _check_sha256(path: Path, expected: str) -> None:
    digest = sha256_of(path)
    if not digest.startswith(expected):
        raise WeightsError(
            "{path} is damaged: its sha256 is {digest}, expected {expected}. Delete the file.",
            path=path,
            digest=digest,
            expected=expected,
        )


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """The tensors in a state dict of `torch.save`, in its zip format or in the older one.

    Raises:
        WeightsError: If the file is damaged, or holds anything but a plain state dict.
    """
    try:
        state = _load(path)
        reason = _what_is_wrong(state, path.stat().st_size)
    except Exception as error:  # a damaged or malicious file can make torch.load raise anything
        raise _refused(path, f"reading it fails with {type(error).__name__}") from error
    if reason:
        raise _refused(path, reason)
    return {name: tensor.detach() for name, tensor in state.items()}


def _refused(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        "{path} cannot be read as a state dict of torch.save: {reason}. "
        "Replace it with an undamaged file that holds nothing but tensors, or with a .safetensors file.",
        path=path,
        reason=reason,
    )


def _load(path: Path) -> Any:
    """Read a file with torch's unpickler for weights, which runs no code.

    Compressed entries are refused, since a small one could fill the memory.
    """
    with path.open("rb") as file:
        zipped = file.read(len(ZIP_START)) == ZIP_START
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("an entry is compressed, but torch.save compresses none")
    with _quiet, warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _what_is_wrong(state: Any, file_size: int) -> str:
    """The reason why a value is not a flat dictionary of plain tensors; empty if it is one."""
    if not isinstance(state, dict):
        return "it holds no dictionary of tensors"
    storages: dict[int, int] = {}
    for name, tensor in state.items():
        if not isinstance(name, str):
            return f"the name of its entry {name!r:.80} is not text"
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"its entry {name!r:.80} is not a tensor"
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
            return f"its entry {name!r:.80} is not a dense tensor of float32, float16 or int64"
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.nbytes > storage.nbytes():
            return f"its entry {name!r:.80} has more elements than are stored"
    if sum(storages.values()) > file_size:
        return "it describes more numbers than it holds"
    return ""


def _download(name: str) -> Path:
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
                raise ValueError(f"its sha256 is {digest}, expected {official.sha256}")


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
                raise ValueError(f"it takes longer than {LONGEST_DOWNLOAD_SECONDS:.0f} seconds")
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
