"""A method of your own, outside the package: it fits, saves and loads like those that come with blemish.

Run `make demo` first: it draws the product that is read here. `blemish.testing.check_method(MeanImage)` proves that
the method keeps the contract.
"""
# ruff: noqa: T201

from collections.abc import Iterable

import torch
from torch import Tensor

import blemish
from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding


class MeanImage(blemish.Method):
    """The difference from the mean of the normal images."""

    # Declared once: the constructor's check, `blemish methods` and the manifest follow from it.
    sigma: float = blemish.argument(4.0, "Gaussian blur of the anomaly map, in pixels.", ge=0)

    def build(self) -> None:
        """Make the buffers, once the arguments are set."""
        self.mean: Tensor  # (3, H, W)
        self.register_buffer(
            "mean", torch.empty(0)
        )  # what is learned is a buffer: the weights file stores it

    def collect(self, batches: Iterable[Tensor]) -> None:
        """Average all normal images."""
        total, count = torch.zeros(()), 0
        for images in batches:
            filled, _ = split_padding(images)  # NaN means "not part of the image"
            total = total.to(filled) + filled.sum(0)
            count += len(images)
        self.mean = total / count

    def forward(self, images: Tensor) -> blemish.Prediction[Tensor]:
        """Score (N, 3, H, W): (N,) and (N, H, W)."""
        filled, visible = split_padding(images)
        grid = mask_grid((filled - self.mean).abs().mean(1), visible)  # no score comes from the padding
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), self.sigma)
        return blemish.Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)


if __name__ == "__main__":
    blemish.register_method("mean_image", MeanImage)  # the name by which a saved model finds it
    data = blemish.open_dataset("demo/plate")
    model = blemish.fit(MeanImage(sigma=2.0), data.train)
    print(blemish.evaluate(model, data.test))
    model.save("demo/mean_image.blemish")
    print(blemish.load("demo/mean_image.blemish").manifest.arguments)
