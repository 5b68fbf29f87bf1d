"""Scores an image by a trained method as if the method had not learned from it, nor from others of its group."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.data.loading import Images
from blemish.methods.base import Method
from blemish.training.batches import ImageBatches
from blemish.types import Progress, no_progress


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


@contextmanager
def leaving_out(
    method: Method,
    images: Images,
    groups: Sequence[int],
    *,
    batch_size: int = 4,
    progress: Progress = no_progress,
) -> Iterator[None]:
    """In this context, `predict_without` may leave out whole groups of a trained method's images.

    Args:
        method: That supports it; it passes once over the images.
        images: All training images, in the order of training.
        groups: Number of the group of each.
        batch_size: Of the pass.
        progress: Called with the number of batches done.
    """
    device = method.learned.device
    with torch.inference_mode():
        batches = ImageBatches(images, batch_size, str(device), "leaving out", progress)
        method.eval().prepare_to_leave_out(batches, torch.tensor(groups, device=device))
        try:
            yield
        finally:  # frees the memory
            method.prepare_to_leave_out(ImageBatches((), 1, str(device)), torch.empty(0))
