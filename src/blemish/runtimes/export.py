"""Exports a learned method as an ONNX graph that gives the same scores."""

import logging
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import torch

from blemish.errors import MissingExtraError, ModelError
from blemish.files import whole_file
from blemish.methods.base import Method
from blemish.runtimes.onnx import OnnxRuntime
from blemish.runtimes.torch import TorchRuntime

TOLERANCE = 1e-3
"""Maximum difference between the graph's and torch's scores, as a share of the score."""


def require_exportable(method: Method) -> None:
    """Check, before training, that the method can be exported.

    Raises:
        ModelError: If the method declines export.
        MissingExtraError: If the extra `export` is not installed.
    """
    if not method.exports:
        raise ModelError(
            "{name} cannot be exported: {exports_reason} Use the torch runtime.",
            name=type(method).__name__,
            exports_reason=method.exports_reason,
        )
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Export needs the extra `export`: pip install 'blemish[export]'.") from error


def export_onnx(method: Method, path: Path, size: tuple[int, int]) -> None:
    """Write the graph to `path`, for inputs of `size` (h, w) and any batch size, after comparing it with torch.

    Raises:
        ModelError: If the method declines export, torch cannot trace it, or the graph's scores differ from torch's.
        MissingExtraError: If the extra `export` is not installed.
    """
    require_exportable(method)
    device = method.learned.device
    try:
        with whole_file(path) as temporary:
            _traced(method.cpu(), size).save(temporary, external_data=False)
            _compare(method, temporary, size)
    finally:
        method.to(device)


def _traced(method: Method, size: tuple[int, int]) -> "torch.onnx.ONNXProgram":
    """The method's `forward` as a graph for any batch size."""
    batch = torch.export.Dim("batch", min=1, max=256)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, which do not concern the user
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                method.eval(),
                (torch.zeros(2, 3, *size),),
                dynamo=True,
                input_names=["images"],
                output_names=["score", "anomaly_map"],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
        except Exception as error:  # a third-party method can raise anything while it is traced
            raise ModelError(
                "torch cannot trace {name} ({kind}). Use the torch runtime; "
                "if the method is yours, correct its forward, or set `exports = False` and `exports_reason`.",
                name=type(method).__name__,
                kind=type(error).__name__,
            ) from error
    return cast("torch.onnx.ONNXProgram", program)


def _compare(method: Method, path: Path, size: tuple[int, int]) -> None:
    """Compare graph and torch on noise with padding, at another batch size than the traced one."""
    images = np.random.default_rng(0).random((3, 3, *size), np.float32)
    images[0, :, : size[0] // 4] = np.nan
    expected = TorchRuntime(method).predict(images)
    actual = OnnxRuntime(path).predict(images)
    for name, a, b in zip(("score", "anomaly_map"), expected, actual, strict=True):
        difference = float(np.abs(a - b).max() / max(float(np.abs(a).max()), 1e-12))
        if not difference <= TOLERANCE:
            raise ModelError(
                "The exported graph's {name} differs from torch's by {difference:.1e} of its value (allowed: "
                "{tolerance:.0e}), so the graph was not written. Please report this with the method and its arguments.",
                name=name,
                difference=difference,
                tolerance=TOLERANCE,
            )
