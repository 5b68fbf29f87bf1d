"""The ONNX runtime: runs an exported graph, without torch."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.errors import MissingExtraError, ModelError
from blemish.types import Prediction

EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxRuntime:
    """An exported graph in ONNX Runtime on the CPU."""

    name = "onnx"
    device = "cpu"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "The ONNX runtime needs the extra `onnx`: pip install 'blemish[onnx]'."
            ) from error
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = thread_count()
            # Weights in other files, which no sha256 covers, are searched in a folder that does not exist.
            options.add_session_config_entry(EXTERNAL_FOLDER, str(path / "none"))
            self.session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own without a common base
            raise ModelError(
                "{path} is not a graph that ONNX Runtime can run: {error}. Export the model again.",
                path=path,
                error=error,
            ) from error

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """Score images (N, 3, h, w), RGB in [0, 1]."""
        score, anomaly_map = self.session.run(["score", "anomaly_map"], {"images": images})
        return Prediction(score, anomaly_map)


def thread_count() -> int:
    """Number of threads that $OMP_NUM_THREADS asks for, as PyTorch reads it; 0, one for each core, without it."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0
