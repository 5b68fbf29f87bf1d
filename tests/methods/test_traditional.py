"""What the methods without a network have in common: scores, padding, errors, and results on real images."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from blemish.errors import MethodError
from blemish.methods.base import Method
from blemish.methods.pca import PCA
from blemish.methods.template import Template
from blemish.methods.texture import Texture
from blemish.methods.variation import Variation
from brackets import learned, parts, with_defect

ALL: list[Callable[[], Method]] = [Template, Variation, Texture, PCA]


def padded(images: Tensor) -> Tensor:
    """The images with 16 rows of NaN above and below."""
    canvas = torch.full((len(images), 3, images.shape[2] + 32, images.shape[3]), torch.nan)
    canvas[:, :, 16 : 16 + images.shape[2]] = images
    return canvas


@pytest.mark.parametrize("make", ALL)
def test_a_defect_raises_the_score_and_the_map_peaks_there(make: Callable[[], Method]) -> None:
    method = learned(make(), parts(12))
    normal = parts(1, seed=8)
    prediction = method(with_defect(normal))
    assert prediction.score > 1.5 * method(normal).score
    peak = int(prediction.anomaly_map[0].argmax())
    assert 36 <= peak // 64 <= 53
    assert 36 <= peak % 64 <= 53


@pytest.mark.parametrize("make", [Template, Variation, PCA])  # Texture's logarithms saturate
def test_the_score_grows_with_the_defect(make: Callable[[], Method]) -> None:
    method = learned(make(), parts(12))
    normal = parts(1, seed=8)
    scores = [float(method(with_defect(normal, strength)).score[0]) for strength in (0, 0.5, 1, 2)]
    assert scores == sorted(scores)
    assert scores[-1] > 1.5 * scores[-2]


@pytest.mark.parametrize(
    ("make", "share", "gap"), [(Template, 0.1, 0.045), (Variation, 0.1, 0.2), (Texture, 0.25, 0.2)]
)
def test_padding_changes_the_map_little_and_has_no_maximum(
    make: Callable[[], Method], share: float, gap: float
) -> None:
    normal, defective = parts(12), with_defect(parts(1, seed=8))
    expected = learned(make(), normal)(defective)
    found = learned(make(), padded(normal))(padded(defective))
    torch.testing.assert_close(found.score, expected.score, rtol=0.05, atol=0)
    inside = found.anomaly_map[:, 16:80]
    torch.testing.assert_close(inside[:, 8:-8], expected.anomaly_map[:, 8:-8], rtol=share, atol=gap)
    assert found.anomaly_map.amax() == inside.amax()


@pytest.mark.parametrize("make", ALL)
def test_learning_twice_gives_equal_states(make: Callable[[], Method]) -> None:
    first, second = (learned(make(), parts(12)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("make", ALL)
def test_learning_from_no_image_is_an_error(make: Callable[[], Method]) -> None:
    with pytest.raises(MethodError, match="There is no image to learn from"):
        make().collect([])


@pytest.fixture(scope="module")
def bottles() -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """60 normal bottles, then every fourth test image with its mask, 128 px."""
    if "BLEMISH_DATA" not in os.environ:
        pytest.skip("BLEMISH_DATA is not set: no real images")
    root = Path(os.environ["BLEMISH_DATA"], "mvtec_ad", "bottle")
    tests = sorted(root.glob("test/*/*.png"))[::4]
    masks = np.zeros((len(tests), 128, 128), bool)
    for mask, path in zip(masks, tests, strict=True):
        if path.parent.name != "good":
            file = root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
            grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert grey is not None
            mask[:] = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_NEAREST) > 127
    return _read(sorted(root.glob("train/good/*.png"))[:60]), _read(tests), masks


def _read(paths: list[Path]) -> Tensor:
    images = []
    for path in paths:
        image = cv2.imread(str(path))
        assert image is not None
        images.append(cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)[:, :, ::-1])
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2) / 255).float()


@pytest.mark.parametrize(
    ("make", "image_auroc", "pixel_auroc"),
    [(Template, 0.85, 0.9), (Variation, 0.9, 0.88), (Texture, 0.85, 0.85), (PCA, 0.95, 0.93)],
)
def test_defects_of_bottles_are_found(
    make: Callable[[], Method],
    image_auroc: float,
    pixel_auroc: float,
    bottles: tuple[Tensor, Tensor, NDArray[np.bool_]],
) -> None:
    normal, tests, masks = bottles
    score, anomaly_map = learned(make(), normal)(tests)
    assert roc_auc_score(masks.any((1, 2)), score.numpy()) >= image_auroc
    assert roc_auc_score(masks.ravel(), anomaly_map.numpy().ravel()) >= pixel_auroc
