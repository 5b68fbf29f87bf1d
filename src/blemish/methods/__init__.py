"""The catalogue: all methods of blemish by their names in the command line, the manifest and the docs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the classes that `blemish` offers as public names, for type checkers and editors
    from blemish.methods.anogan import AnoGAN as AnoGAN
    from blemish.methods.anomalydino import AnomalyDINO as AnomalyDINO
    from blemish.methods.autoencoder import AutoEncoder as AutoEncoder
    from blemish.methods.cpr import CPR as CPR
    from blemish.methods.cyclegan import CycleGAN as CycleGAN
    from blemish.methods.denoising_autoencoder import DenoisingAutoEncoder as DenoisingAutoEncoder
    from blemish.methods.diffusionad import DiffusionAD as DiffusionAD
    from blemish.methods.efficientad import EfficientAD as EfficientAD
    from blemish.methods.f_anogan import FAnoGAN as FAnoGAN
    from blemish.methods.fastflow import FastFlow as FastFlow
    from blemish.methods.ganomaly import GANomaly as GANomaly
    from blemish.methods.msflow import MSFlow as MSFlow
    from blemish.methods.padim import PaDiM as PaDiM
    from blemish.methods.patchcore import PatchCore as PatchCore
    from blemish.methods.pca import PCA as PCA
    from blemish.methods.pni import PNI as PNI
    from blemish.methods.reconpatch import ReConPatch as ReConPatch
    from blemish.methods.regad import RegAD as RegAD
    from blemish.methods.simplenet import SimpleNet as SimpleNet
    from blemish.methods.softpatch import SoftPatch as SoftPatch
    from blemish.methods.template import Template as Template
    from blemish.methods.texture import Texture as Texture
    from blemish.methods.vae import VAE as VAE
    from blemish.methods.variation import Variation as Variation

CATALOGUE: Mapping[str, str] = {
    "patchcore": "blemish.methods.patchcore:PatchCore",
    "padim": "blemish.methods.padim:PaDiM",
    "fastflow": "blemish.methods.fastflow:FastFlow",
    "msflow": "blemish.methods.msflow:MSFlow",
    "simplenet": "blemish.methods.simplenet:SimpleNet",
    "efficientad": "blemish.methods.efficientad:EfficientAD",
    "pni": "blemish.methods.pni:PNI",
    "reconpatch": "blemish.methods.reconpatch:ReConPatch",
    "cpr": "blemish.methods.cpr:CPR",
    "regad": "blemish.methods.regad:RegAD",
    "softpatch": "blemish.methods.softpatch:SoftPatch",
    "anomalydino": "blemish.methods.anomalydino:AnomalyDINO",
    "autoencoder": "blemish.methods.autoencoder:AutoEncoder",
    "denoising_autoencoder": "blemish.methods.denoising_autoencoder:DenoisingAutoEncoder",
    "vae": "blemish.methods.vae:VAE",
    "anogan": "blemish.methods.anogan:AnoGAN",
    "f_anogan": "blemish.methods.f_anogan:FAnoGAN",
    "ganomaly": "blemish.methods.ganomaly:GANomaly",
    "cyclegan": "blemish.methods.cyclegan:CycleGAN",
    "diffusionad": "blemish.methods.diffusionad:DiffusionAD",
    "template": "blemish.methods.template:Template",
    "variation": "blemish.methods.variation:Variation",
    "texture": "blemish.methods.texture:Texture",
    "pca": "blemish.methods.pca:PCA",
}
"""Name → "module:class". A method's name is its file's name."""
