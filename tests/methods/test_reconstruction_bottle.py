"""Reconstruction methods on real images: small networks and short training, compared with a control."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import blemish
from blemish.methods.base import Method
from blemish.runtimes.torch import TorchRuntime
from blemish.training import learn
from blemish.types import Prediction

pytestmark = pytest.mark.skipif(
    "BLEMISH_DATA" not in os.environ, reason="BLEMISH_DATA is not set: no real images"
)
SIDE = 64
SMALL: dict[str, Any] = {"size": SIDE, "standardise": False}

Arrays = NDArray[np.float32]


class Bottle(NamedTuple):
    """MVTec AD's bottle at 64 × 64 pixels."""

    train: Arrays
    test: Arrays
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]


@pytest.fixture(scope="module")
def bottle() -> Bottle:
    data = blemish.open_dataset(Path(os.environ["BLEMISH_DATA"], "mvtec_ad", "bottle"))
    preprocess = blemish.Preprocess(size=(SIDE, SIDE))
    train, test = (
        np.stack([preprocess(blemish.read_image(sample.path)) for sample in samples])
        for samples in (data.train, data.test)
    )
    masks = np.zeros((len(test), SIDE, SIDE), np.bool_)
    for index, sample in enumerate(data.test):
        if sample.mask_path is not None:
            masks[index] = preprocess.place(blemish.read_image(sample.mask_path)[..., 0] > 0)
    return Bottle(train, test, np.array([sample.label for sample in data.test]), masks)


def found(method: Method, bottle: Bottle, images: Arrays | None = None, seed: int = 0) -> Prediction[Arrays]:
    """Scores and maps of the test images after learning."""
    learn(method, bottle.train if images is None else images, seed=seed)
    return TorchRuntime(method).predict(bottle.test)


def image_auroc(bottle: Bottle, prediction: Prediction[Arrays]) -> float:
    return float(roc_auc_score(bottle.labels, prediction.score))


def pixel_auroc(bottle: Bottle, prediction: Prediction[Arrays]) -> float:
    return float(roc_auc_score(bottle.masks.ravel(), prediction.anomaly_map.ravel()))


def test_autoencoder_localises_defects_better_than_after_training_on_shuffled_pixels(bottle: Bottle) -> None:
    def build() -> Method:
        return blemish.AutoEncoder(**SMALL, width=16, epochs=15, patience=0)

    order = np.random.default_rng(0).permutation(SIDE**2)
    shuffled = bottle.train.reshape(len(bottle.train), 3, -1)[:, :, order].reshape(bottle.train.shape)
    real, control = (
        pixel_auroc(bottle, found(build(), bottle, images))
        for images in (bottle.train, np.ascontiguousarray(shuffled))
    )
    assert real >= 0.80
    assert real > control + 0.02


@pytest.mark.parametrize("seed", range(3))
def test_ganomaly_ranks_defective_images_higher(bottle: Bottle, seed: int) -> None:
    method = blemish.GANomaly(**SMALL, width=16, epochs=12, learning_rate=1e-3)
    assert image_auroc(bottle, found(method, bottle, seed=seed)) > 0.6
