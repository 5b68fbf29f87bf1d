"""The answers of a server of weight files, and a small state dict for it."""

import io
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.features.download import cache_folder

SHAPES = {"w": (2, 3)}
STATE = {"w": torch.arange(6.0).view(2, 3), "not needed": torch.zeros(1)}


@dataclass
class Server:
    """Answers every request with the same content, rightly or wrongly."""

    content: bytes
    address: str = ""
    status: int = 200
    promised: int | None = None
    """The Content-Length that is sent; -1 sends none."""
    pause: float = 0.0
    """Seconds between the bytes; 0 sends all at once."""
    requests: list[str] = field(default_factory=list)


def as_torch_file(state: dict[str, Tensor], zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def left_in_cache() -> list[str]:
    return sorted(path.name for path in cache_folder().iterdir())
