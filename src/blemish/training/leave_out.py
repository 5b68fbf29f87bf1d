"""Scores images by a trained method as if the method had not learned from them, nor from others of their groups."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.methods.base import Method
from blemish.types import Prediction

LeftOut = tuple[float, NDArray[np.float32]]
"""Score and map (H, W) of an image."""


def predict_without(method: Method, image: NDArray[np.float32], numbers: Sequence[int]) -> LeftOut:
    """The prediction for an image (3, H, W) without the training images `numbers`; see `Method.score_without`.

    Raises:
        MethodError: If the method cannot leave images out.
    """
    with torch.inference_mode():
        device = method.learned.device
        images, left_out = torch.from_numpy(image[None]).to(device), torch.tensor(numbers, device=device)
        score, anomaly_map = method.eval().score_without(images, left_out)
    return float(score), anomaly_map[0].cpu().numpy()


@torch.inference_mode()
def left_out(predictions: Iterable[Prediction[Tensor]]) -> Iterator[LeftOut]:
    """The predictions of `Method.predict_left_out`, made without gradients one by one."""
    for score, anomaly_map in predictions:
        yield float(score), anomaly_map[0].cpu().numpy()
