"""The torch runtime: runs the method itself."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.errors import MethodError, MissingExtraError, ModelError, WeightsError
from blemish.features.weights import without_pretrained
from blemish.methods.base import Method
from blemish.types import Prediction

Upgrade = Callable[[Mapping[str, Tensor], Iterable[str]], Mapping[str, Tensor]]


class TorchRuntime:
    """A learned method and the device it runs on."""

    name = "torch"

    def __init__(self, method: Method, device: str = "cpu") -> None:
        self.method = method.to(device).eval()
        self.device = device

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """Score images (N, 3, h, w), RGB in [0, 1]."""
        with torch.inference_mode():
            score, anomaly_map = self.method(torch.from_numpy(images).to(self.device))
        return Prediction(score.cpu().numpy(), anomaly_map.cpu().numpy())


def available_devices() -> tuple[str, ...]:
    """The devices of this computer: cpu, and cuda, cuda:0, … if there are GPUs."""
    count = torch.cuda.device_count()
    return ("cpu", *(("cuda", *(f"cuda:{index}" for index in range(count))) if count else ()))


def thread_count() -> int:
    """Number of threads that torch computes with on CPUs."""
    return torch.get_num_threads()


def resolve_device(device: str) -> str:
    """The device of that name; "auto" is the GPU if there is one, else the CPU.

    Raises:
        MethodError: If there is no such device; the text lists the devices.
    """
    offered = available_devices()
    if device == "auto":
        return "cuda" if "cuda" in offered else "cpu"
    if device not in offered:
        raise MethodError(
            "torch finds no device {device!r}. Choose one of: {offered}.",
            device=device,
            offered=", ".join((*offered, "auto")),
        )
    return device


def save_weights(method: Method, path: Path) -> None:
    """Write the method's state dict, learned and frozen tensors, as one safetensors file."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in method.state_dict().items()}, path)


def load_method(
    cls: type[Method], arguments: Mapping[str, Any], path: Path, upgrade: Upgrade = lambda state, _: state
) -> Method:
    """Build a method from its arguments and its weights file, without pretrained weights.

    Args:
        cls: The method's class.
        arguments: Arguments of its constructor.
        path: The weights file.
        upgrade: Converts the file's state dict to the names that the method has, which are its second argument.

    Raises:
        ModelError: If the file is damaged or does not belong to such a method.
        MissingExtraError: If the backbone needs a package that is not installed.
        WeightsError: If a Hugging Face backbone's configuration cannot be found.
    """
    try:
        with without_pretrained():
            method = cls(**arguments)
        method.load_learned(upgrade(load_file(os.fspath(path)), method.state_dict()))
    except (MissingExtraError, WeightsError):
        raise
    except Exception as error:  # a manipulated manifest's arguments can make a constructor raise anything
        raise ModelError(
            "{path} does not hold the weights of {name} with the arguments in the manifest: {error}. "
            "The model folder is damaged; copy it again or fit again.",
            path=path,
            name=cls.__name__,
            error=error,
        ) from error
    return method.eval()
