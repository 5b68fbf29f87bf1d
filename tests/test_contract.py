"""The contract of a method, run over the whole catalogue."""

import os
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from blemish.errors import MethodError
from blemish.methods import CATALOGUE
from blemish.methods.anogan import AnoGAN
from blemish.methods.anomalydino import AnomalyDINO
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.base import Method
from blemish.methods.cpr import CPR
from blemish.methods.cyclegan import CycleGAN
from blemish.methods.denoising_autoencoder import DenoisingAutoEncoder
from blemish.methods.diffusionad import DiffusionAD
from blemish.methods.efficientad import EfficientAD
from blemish.methods.f_anogan import FAnoGAN
from blemish.methods.fastflow import FastFlow
from blemish.methods.ganomaly import GANomaly
from blemish.methods.msflow import MSFlow
from blemish.methods.padim import PaDiM
from blemish.methods.patchcore import PatchCore
from blemish.methods.pca import PCA
from blemish.methods.pni import PNI
from blemish.methods.reconpatch import ReConPatch
from blemish.methods.regad import RegAD
from blemish.methods.simplenet import SimpleNet
from blemish.methods.softpatch import SoftPatch
from blemish.methods.template import Template
from blemish.methods.texture import Texture
from blemish.methods.vae import VAE
from blemish.methods.variation import Variation
from blemish.plugins import name_of
from blemish.testing import CHECKS, parametrize_with_checks
from blemish.testing.parts import normal_parts
from blemish.training import learn
from tiny_product import Average

Make = Callable[[], Method]
Check = Callable[[Make], None]
TINY_CODE: dict[str, Any] = {"size": 32, "width": 8, "code": 8, "batch_size": 4}
METHODS: dict[str, Make] = {
    "patchcore": lambda: PatchCore(backbone="compact:random", coreset_ratio=0.1),
    "patchcore-amazon": lambda: PatchCore(
        backbone="compact:random", coreset_ratio=0.1, neighbours=1, squared=True, mean_mapped=384
    ),
    "padim": lambda: PaDiM(backbone="compact:random", dimensions=16),
    "fastflow": lambda: FastFlow(backbone="compact:random", flow_steps=2, epochs=6, patience=0),
    "msflow": lambda: MSFlow(backbone="compact:random", flow_steps=(1, 1), epochs=6, learning_rate=1e-3),
    "cpr": lambda: CPR(
        backbone="compact:random", retrieved=3, width=12, steps=24, batch_size=4, learning_rate=1e-2
    ),
    "efficientad": lambda: EfficientAD(backbone="pdn_small:random", steps=2),
    "simplenet": lambda: SimpleNet(
        backbone="compact:random", hidden=64, noise=0.5, learning_rate=1e-2, epochs=20, batch_size=4
    ),
    "reconpatch": lambda: ReConPatch(
        backbone="compact:random", sampled=128, epochs=2, batch_size=4, coreset_ratio=0.1
    ),
    "pni": lambda: PNI(
        backbone="compact:random",
        coreset_ratio=0.1,
        classes=32,
        reduced=16,
        hidden=64,
        sampled=128,
        epochs=10,
        batch_size=4,
    ),
    "regad": lambda: RegAD(backbone="compact:random", dimensions=8, views=False, steps=0),
    "softpatch": lambda: SoftPatch(backbone="compact:random", coreset_ratio=0.1),
    "anomalydino": lambda: AnomalyDINO(backbone="compact:random", layers=(2, 3), rotations=4),
    "anomalydino-foreground": lambda: AnomalyDINO(
        backbone="compact:random", layers=(2, 3), rotations=1, foreground=True, bank_size=300
    ),
    "autoencoder": lambda: AutoEncoder(**TINY_CODE, epochs=20, learning_rate=3e-3),
    "autoencoder-patches": lambda: AutoEncoder(
        **TINY_CODE, epochs=20, learning_rate=3e-3, patches=True, standardise=False, score="latent"
    ),
    "denoising_autoencoder": lambda: DenoisingAutoEncoder(**TINY_CODE, epochs=5, learning_rate=1e-2),
    "denoising_autoencoder-skips": lambda: DenoisingAutoEncoder(
        **TINY_CODE, epochs=5, learning_rate=1e-2, corruption="coarse", strength=0.2, skips=True
    ),
    "vae": lambda: VAE(**TINY_CODE, epochs=20, learning_rate=3e-3),
    "vae-gradient": lambda: VAE(**TINY_CODE, epochs=20, learning_rate=3e-3, score="gradient"),
    "anogan": lambda: AnoGAN(**TINY_CODE, search_steps=5, epochs=4, learning_rate=2e-3),
    "f_anogan": lambda: FAnoGAN(
        size=16,
        width=4,
        code=8,
        batch_size=4,
        critic_steps=1,
        gan_steps=24,
        encoder_steps=24,
        learning_rate=1e-2,
        encoder_learning_rate=2e-3,
    ),
    "ganomaly": lambda: GANomaly(**TINY_CODE, epochs=4, learning_rate=2e-3),
    "cyclegan": lambda: CycleGAN(size=32, width=4, blocks=1, epochs=2, learning_rate=2e-3),
    "diffusionad": lambda: DiffusionAD(
        size=32,
        patches=True,
        width=16,
        segmenter_width=8,
        attention=8,
        batch_size=12,
        epochs=130,
        learning_rate=2e-3,
        segmenter_learning_rate=1e-2,
    ),
    "template": Template,
    "variation": Variation,
    "texture": Texture,
    "pca": PCA,
    "average": Average,
}
ran: Counter[str] = Counter()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "image", [normal_parts(1)[0], np.full((3, 64, 96), 0.5, np.float32)], ids=["part", "grey"]
)
def test_copies_of_one_image_are_refused(name: str, image: "np.ndarray[Any, np.dtype[np.float32]]") -> None:
    with pytest.raises(
        MethodError, match=r"^All 3 training images have the same pixels, .* Give images of different"
    ):
        learn(METHODS[name](), np.stack([image] * 3), seed=0)


@parametrize_with_checks(METHODS)
def test_contract(check: Check, make_method: Make, request: pytest.FixtureRequest) -> None:
    ran[request.node.callspec.id] += 1
    check(make_method)


def test_every_method_of_the_catalogue_is_checked() -> None:
    classes = {type(make()) for make in METHODS.values()}
    assert {name_of(cls) for cls in classes if cls.__module__.startswith("blemish.")} == set(CATALOGUE)


def test_every_pair_of_method_and_check_ran(request: pytest.FixtureRequest) -> None:
    expected = {f"{name}-{check.__name__.removeprefix('check_')}" for name, check in product(METHODS, CHECKS)}
    assert len(expected) == len(METHODS) * len(CHECKS) >= 9 * 15
    contract = [i for i in request.session.items if getattr(i, "originalname", "") == "test_contract"]
    collected = {item.callspec.id for item in contract if isinstance(item, pytest.Function)}
    if len(collected) < len(expected):
        pytest.skip("only some of the contract was asked for")
    assert collected == expected
    if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the pairs among them
        assert ran == dict.fromkeys(expected, 1)
