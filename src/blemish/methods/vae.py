"""VAE: reconstruction error or evidence lower bound of a variational autoencoder.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; the gradient map is that of Zimmerer et al.,
"Unsupervised Anomaly Localization using Variational Auto-Encoders", MICCAI 2019.
Differs from the papers: scoring draws no random code but uses the mean of its distribution; the encoder and the
decoder are those of `AutoEncoder`.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.conv_autoencoder import ConvEncoder
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.autoencoder import LOSSES, ConvAutoEncoder
from blemish.methods.base import Preset
from blemish.methods.reconstruction import TEXTURE, latent_distance

LOG_VARIANCES = (-10.0, 10.0)
"""Range to which the logarithms of a code's variances are clamped, so that the loss stays finite."""
Score = Literal["pixels", "elbo", "latent", "gradient"]


class VAE(ConvAutoEncoder):
    """Reconstructs images from the mean of the code's distribution, which is trained towards a standard normal one.

    The loss is the negative evidence lower bound, divided by the number of values of an image: Σ(x − x̂)² /
    (2·deviation²) over all values, plus a constant, plus β times the Kullback-Leibler divergence of the code's
    distribution from the standard normal one.
    """

    deviation: float = argument(
        0.1, "Standard deviation of a pixel around its reconstruction.", ge=0.001, le=10
    )
    beta: float = argument(1.0, "Weight of the Kullback-Leibler divergence.", ge=0, le=10000)
    score: Score = arguments.score("pixels", "'elbo' the negative bound, 'gradient' from its gradient")

    presets: ClassVar = {
        "texture": Preset({**TEXTURE, "epochs": 400, "steps": 9600}),
        "paper": Preset(
            {
                "size": 256,
                "code": 100,
                "standardise": False,
                "learning_rate": 2e-4,
                "epochs": 200,
                "steps": 0,
                "patience": 0,
            },
            {"size": (256, 256)},
        ),
    }
    exports_reason: ClassVar[str] = "Its anomaly map is a gradient, which an exported graph cannot compute."

    def build(self) -> None:
        super().build()
        self.exports = self.score != "gradient"

    def make_encoder(self) -> nn.Module:
        return ConvEncoder(self.size, self.width, 2 * self.code)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        with mixed_precision(views.device):
            mean, log_variance = self.encoded(views)
            reconstruction = self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        bound = self.negative_elbo(views, reconstruction.float(), mean, log_variance)
        return (bound / views[0].numel()).mean()

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.score == "gradient":
            return self.bound_gradient(views).abs().mean(1), None
        mean, log_variance = self.encoded(views)
        reconstruction = self.decoder(mean)
        scores = None
        if self.score == "elbo":
            scores = self.negative_elbo(views, reconstruction, mean, log_variance)
        elif self.score == "latent":
            scores = latent_distance(mean, self.encoded(reconstruction)[0])
        return LOSSES["l2"](views, reconstruction), scores

    def encoded(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of the variances of the codes' distributions, (N, code, 1, 1) each."""
        mean, log_variance = self.encoder(views).to(views.dtype).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def negative_elbo(
        self, views: Tensor, reconstruction: Tensor, mean: Tensor, log_variance: Tensor
    ) -> Tensor:
        """Negative evidence lower bound of each view (N,) in nats, estimated from the reconstruction of one code."""
        squares = (views - reconstruction).square().flatten(1).sum(1)
        constant = views[0].numel() * math.log(self.deviation * math.sqrt(2 * math.pi))
        return squares / (2 * self.deviation**2) + constant + self.beta * divergence(mean, log_variance)

    def bound_gradient(self, views: Tensor) -> Tensor:
        """Gradient of the negative bound with respect to the views (N, 3, size, size)."""
        with torch.inference_mode(False), torch.enable_grad():
            views = views.clone().requires_grad_()
            mean, log_variance = self.encoded(views)
            bound = self.negative_elbo(views, self.decoder(mean), mean, log_variance).sum()
            return torch.autograd.grad(bound, views)[0]


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence (N,) of diagonal Gaussians (N, …) from the standard normal one, in nats."""
    return (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1) / 2
