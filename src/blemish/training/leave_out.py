"""Scores an image by a trained method as if the method had not learned from it, nor from others of its group."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.methods.base import Method


def predict_without(
    method: Method, image: NDArray[np.float32], numbers: Sequence[int]
) -> tuple[float, NDArray[np.float32]]:
    """Score and map (H, W) of an image (3, H, W) without the training images `numbers`; see `Method.score_without`.

    Raises:
        MethodError: If the method cannot leave images out.
    """
    with torch.inference_mode():
        device = method.learned.device
        images, left_out = torch.from_numpy(image[None]).to(device), torch.tensor(numbers, device=device)
        score, anomaly_map = method.eval().score_without(images, left_out)
    return float(score), anomaly_map[0].cpu().numpy()
