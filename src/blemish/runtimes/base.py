"""The interface of runtimes."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.types import Prediction


class Runtime(Protocol):
    """Runs a learned method."""

    name: str
    device: str
    """"cpu" or, for example, "cuda"."""

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """Score images (N, 3, h, w), RGB in [0, 1]; padded pixels are NaN."""
