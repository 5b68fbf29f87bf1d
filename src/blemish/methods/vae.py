"""VAE: an autoencoder whose code is a distribution; what the likelihood says against a picture is anomalous.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; the gradient map is that of Zimmerer et al.,
"Unsupervised Anomaly Localization using Variational Auto-Encoders", MICCAI 2019. Differs from the papers: nothing is
drawn while scoring, the code is its distribution's mean; the encoder and decoder are those of `autoencoder`.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.conv_autoencoder import ConvEncoder
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods.arguments import argument
from blemish.methods.autoencoder import LOSSES, ConvAutoEncoder
from blemish.methods.base import Preset
from blemish.methods.reconstruction import latent_distance

LOG_VARIANCES = (-10.0, 10.0)
"""A code's are kept within, or a bad step would end in infinities."""


class VAE(ConvAutoEncoder):
    """Rebuilds pictures from the mean of a code's distribution, kept close to a standard normal one.

    The loss is the negative evidence lower bound: Σ(x − x̂)² / (2·deviation²) over all values of a picture, plus β
    times the divergence of the code's distribution summed over the code; divided by the number of values at the end.
    """

    deviation: float = argument(
        0.1,
        "Standard deviation of a pixel's value around the reconstruction, on the scale from 0 to 1.",
        gt=0,
    )
    beta: float = argument(
        1.0, "Weight of the Kullback-Leibler divergence; 1 is the evidence lower bound.", ge=0
    )
    score: Literal["pixels", "elbo", "latent", "gradient"] = argument(
        "pixels",
        "Image score: 'pixels' for the map's maximum, 'elbo' for the negative bound, 'latent' for the distance of the "
        "codes of input and output, 'gradient' as 'pixels' with the bound's gradient as the map.",
    )

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
    exports_reason: ClassVar[str] = "Its map is a gradient, which a graph of the forward pass does not hold."

    def build(self) -> None:
        super().build()
        self.exports = self.score != "gradient"

    def make_encoder(self) -> nn.Module:
        return ConvEncoder(self.size, self.width, 2 * self.code)

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
        return LOSSES["l2"](views, rebuilt), scores

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
