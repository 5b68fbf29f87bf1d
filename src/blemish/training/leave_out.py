"""Scores a training image by a trained method as if the method had not learned from it."""

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.methods.base import Method


def predict_without(
    method: Method, image: NDArray[np.float32], number: int
) -> tuple[float, NDArray[np.float32]]:
    """Score and map (H, W) of training image `number`, (3, H, W); see `Method.score_without`.

    Raises:
        MethodError: If the method cannot leave an image out.
    """
    with torch.inference_mode():
        images = torch.from_numpy(image[None]).to(method.learned.device)
        score, anomaly_map = method.eval().score_without(images, number)
    return float(score), anomaly_map[0].cpu().numpy()
