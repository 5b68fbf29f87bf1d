"""VAE: an autoencoder whose code is a distribution; what the likelihood says against a picture is anomalous.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; the gradient map is that of Zimmerer et al.,
"Unsupervised Anomaly Localization using Variational Auto-Encoders", MICCAI 2019. Differs from the papers: nothing is
drawn while scoring, the code is its distribution's mean; the encoder and decoder are those of `autoencoder`.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.autoencoders.conv_autoencoder import ConvEncoder
from blemish.blocks.mixed_precision import mixed_precision
from blemish.errors import MethodError
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.base import Preset
from blemish.methods.reconstruction import latent_distance

LOG_VARIANCES = (-10.0, 10.0)
"""A code's are kept within, or a bad step would end in infinities."""


class VAE(AutoEncoder):
    """Rebuilds pictures from the mean of a code's distribution, kept close to a standard normal one.

    The loss is the negative evidence lower bound: Σ(x − x̂)² / (2·deviation²) over all values of a picture, plus β
    times the divergence of the code's distribution summed over the code; divided by the number of values at the end.

    Args:
        size: Side in pixels of the pictures that the network sees, a power of two.
        patches: Whether these are windows of the image, for textures, instead of the whole image shrunk.
        width: Channels of the layers next to the picture and to the code.
        code: Numbers of the code.
        deviation: Standard deviation of a pixel's value around the rebuilt one, on the scale from 0 to 1.
        beta: Weight of the divergence; 1 is the bound itself.
        standardise: Whether errors are divided by those usual at their position, for aligned products.
        score: "pixels": the map's maximum; "elbo": the negative bound, "latent": how far the codes of picture and
            rebuilt picture are apart; "gradient": as "pixels", with the bound's gradient as the map.
        learning_rate: Of Adam in the first step; it falls to 0 along half a cosine.
        epochs: Passes over the training images.
        steps: Training steps at most, so that many images take no longer; 0: as many as the epochs need.
        batch_size: Images per step.
        patience: Epochs without a higher bound on held-out normal images after which training ends; 0: never.
    """

    presets: ClassVar = {
        "texture": Preset({"patches": True, "standardise": False, "epochs": 400, "steps": 9600}),
        "paper": Preset(
            {
                "size": 256,
                "code": 100,
                "standardise": False,
                "learning_rate": 2e-4,
                "epochs": 200,
                "steps": 0,
                "patience": 0,
            }
        ),
    }
    scores: ClassVar = ("pixels", "elbo", "latent", "gradient")
    exports_reason: ClassVar[str] = "Its map is a gradient, which a graph of the forward pass does not hold."

    def __init__(
        self,
        *,
        size: int = 128,
        patches: bool = False,
        width: int = 32,
        code: int = 128,
        deviation: float = 0.1,
        beta: float = 1.0,
        standardise: bool = True,
        score: str = "pixels",
        learning_rate: float = 1e-3,
        epochs: int = 150,
        steps: int = 3600,
        batch_size: int = 8,
        patience: int = 20,
    ) -> None:
        super().__init__(
            size=size,
            patches=patches,
            width=width,
            code=code,
            standardise=standardise,
            score=score,
            learning_rate=learning_rate,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            patience=patience,
        )
        if deviation <= 0 or beta < 0:
            raise MethodError(
                f"deviation must be positive and beta not negative, got {deviation} and {beta}; use 0.1 and 1."
            )
        self.deviation = deviation
        self.beta = beta
        self.exports = score != "gradient"
        with torch.device("meta"):
            self.encoder = ConvEncoder(size, width, 2 * code)
        self.encoder.to_empty(device="cpu")
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        with mixed_precision(views.device):
            mean, log_variance = self.encoded(views)
            rebuilt = self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        return (self.negative_elbo(views, rebuilt.float(), mean, log_variance) / views[0].numel()).mean()

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.score == "gradient":
            return self.bound_gradient(views).abs().mean(1), None
        mean, log_variance = self.encoded(views)
        rebuilt = self.decoder(mean)
        scores = None
        if self.score == "elbo":
            scores = self.negative_elbo(views, rebuilt, mean, log_variance)
        elif self.score == "latent":
            scores = latent_distance(mean, self.encoded(rebuilt)[0])
        return self.pixel_errors(views, rebuilt), scores

    def encoded(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of the variances of views' codes, (N, code, 1, 1) each."""
        mean, log_variance = self.encoder(views).to(views.dtype).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def negative_elbo(self, views: Tensor, rebuilt: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Nats of each view (N,), as far as `rebuilt`'s code stands for the whole distribution."""
        squares = (views - rebuilt).square().flatten(1).sum(1)
        constant = views[0].numel() * math.log(self.deviation * math.sqrt(2 * math.pi))
        return squares / (2 * self.deviation**2) + constant + self.beta * divergence(mean, log_variance)

    def bound_gradient(self, views: Tensor) -> Tensor:
        """How much the negative bound grows with each value of the views (N, 3, size, size)."""
        with torch.inference_mode(False), torch.enable_grad():
            views = views.clone().requires_grad_()
            mean, log_variance = self.encoded(views)
            bound = self.negative_elbo(views, self.decoder(mean), mean, log_variance).sum()
            return torch.autograd.grad(bound, views)[0]


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence (N,) of diagonal Gaussians (N, …) from the standard normal one, in nats."""
    return (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1) / 2
