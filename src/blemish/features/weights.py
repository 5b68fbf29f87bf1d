"""Finds, downloads and reads pretrained weights.

They are searched in the folder `$BLEMISH_WEIGHTS`, in the user's cache and in the package itself, in this order,
and otherwise downloaded into the cache. In a folder, `NAME.safetensors` (torchvision's tensor names) is preferred to
torchvision's own file. `$BLEMISH_WEIGHTS_URL` is another address to download the same files from, such as a mirror
inside the factory.
"""

import logging
import os
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from blemish.errors import WeightsError
from blemish.features.download import OFFICIAL, cache_folder, download
from blemish.files import sha256_of
from blemish.messages import message

logger = logging.getLogger("blemish")


EMBEDDED = Path(__file__).parent
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
    path = file or _find(name) or download(name)
    state = _read(path, None if file else name)
    _require_names(path, name, state, shapes)
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


def _require_names(
    path: Path, name: str, state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that a file holds all tensors of a network, and none of another one."""
    missing = [key for key in shapes if key not in state]
    others = _others(state, shapes)
    if others or len(missing) > len(shapes) / 2:
        raise WeightsError(
            "{path} holds the tensors of another network than {name}: {held}, …. Give a state dict of {name}, whose "
            "names are {names}, …, without a prefix.",
            path=path,
            name=name,
            held=", ".join((others or [*state])[:2]) or message("nothing"),
            names=", ".join([*shapes][:2]),
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


def _others(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of tensors that the network would have if it were the file's, as the further blocks of a deeper ResNet.

    Tensors of whole parts that are not built, such as later stages and the classifier, are not among them.
    """
    built = {name.partition(".")[0] for name in shapes}
    return [
        name
        for name in state
        if name.partition(".")[0] in built
        and name not in shapes
        and not name.endswith(".num_batches_tracked")
    ]


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
        reason = message("reading it fails with {kind}", kind=type(error).__name__)
        raise _refused(path, reason) from error
    if reason:
        raise _refused(path, reason)
    return {name: tensor.detach() for name, tensor in state.items()}


def _refused(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        "{path} cannot be read as a state dict of torch.save: {reason}. "
        "Give a file that holds the network's tensors and nothing else, as torch.save(network.state_dict(), path) "
        "writes it, or a .safetensors file.",
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
        return message("it holds no dictionary of tensors")
    storages: dict[int, int] = {}
    for name, tensor in state.items():
        if not isinstance(name, str):
            return message("the name of its entry {name!r:.80} is not text", name=name)
        if type(tensor) not in (Tensor, nn.Parameter):
            return message("its entry {name!r:.80} is not a tensor", name=name)
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
            return message(
                "its entry {name!r:.80} is not a dense tensor of float32, float16 or int64", name=name
            )
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.nbytes > storage.nbytes():
            return message("its entry {name!r:.80} has more elements than are stored", name=name)
    if sum(storages.values()) > file_size:
        return message("it describes more numbers than it holds")
    return ""
