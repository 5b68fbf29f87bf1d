"""One vector per image: the mean of each channel of a backbone's feature maps, for the comparison of whole images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from blemish.features.backbone import Backbone

NAME, LAYERS = "compact", (2, 3)
"""The embedded backbone and its layers: nothing is downloaded."""
SHRUNK = 2
"""Factor by which images are shrunk first, so that the blur and the blocks of an encoder change little."""
BRIGHTNESS = 0.4
"""Mean of the pixels that each image is brought to, since brightness changes all features alike."""


class Embedder:
    """Embeds network inputs; `device` is one of torch."""

    def __init__(self, device: str = "cpu") -> None:
        self.backbone = Backbone(NAME, LAYERS).to(device)
        self.device = device

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (N, D) of images (N, 3, H, W), RGB in [0, 1]."""
        with torch.inference_mode():
            images = torch.from_numpy(inputs).to(self.device)
            images = functional.avg_pool2d(images, SHRUNK, ceil_mode=True, count_include_pad=False)
            mean = images.mean((1, 2, 3), keepdim=True).clamp_min(1 / 255)
            maps = self.backbone((images * BRIGHTNESS / mean).clamp(max=1))
            return torch.cat([one.mean((2, 3)) for one in maps], 1).cpu().numpy()
