"""The catalogue: every method that comes with blemish, by its name in the CLI, the manifest and the docs."""

from collections.abc import Mapping

CATALOGUE: Mapping[str, str] = {
    "patchcore": "blemish.methods.patchcore:PatchCore",
    "padim": "blemish.methods.padim:PaDiM",
    "fastflow": "blemish.methods.fastflow:FastFlow",
    "msflow": "blemish.methods.msflow:MSFlow",
    "simplenet": "blemish.methods.simplenet:SimpleNet",
    "efficientad": "blemish.methods.efficientad:EfficientAD",
    "reconpatch": "blemish.methods.reconpatch:ReConPatch",
    "autoencoder": "blemish.methods.autoencoder:AutoEncoder",
    "denoising_autoencoder": "blemish.methods.denoising_autoencoder:DenoisingAutoEncoder",
    "vae": "blemish.methods.vae:VAE",
    "anogan": "blemish.methods.anogan:AnoGAN",
    "f_anogan": "blemish.methods.f_anogan:FAnoGAN",
    "ganomaly": "blemish.methods.ganomaly:GANomaly",
    "cyclegan": "blemish.methods.cyclegan:CycleGAN",
    "template": "blemish.methods.template:Template",
    "variation": "blemish.methods.variation:Variation",
    "texture": "blemish.methods.texture:Texture",
    "pca": "blemish.methods.pca:PCA",
}
"""Name → "module:class". A method's name is its file's name."""
