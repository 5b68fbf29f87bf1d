import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from blemish.methods.variation import Variation, robust_statistics
from brackets import learned, parts, with_defect


def test_the_map_is_the_robust_z_score() -> None:
    images = parts(7)
    method = learned(Variation(floor=0, smoothing=0, sigma=0), images)
    other = with_defect(parts(1, seed=1))

    def compared(images: Tensor) -> NDArray[np.float32]:
        planes = images.numpy()
        slopes = [ndimage.correlate1d(planes, [-0.5, 0, 0.5], axis=axis, mode="nearest") for axis in (2, 3)]
        return np.concatenate([planes, np.hypot(*slopes)], axis=1)

    normal = compared(images).astype(np.float16).astype(np.float32)
    median = np.median(normal, axis=0)
    deviation = np.median(np.abs(normal - median), axis=0)
    expected = (np.abs(compared(other) - median) / np.maximum(1.4826 * deviation, 12**-0.5 / 255)).mean(1)
    np.testing.assert_allclose(method(other).anomaly_map.numpy(), expected, rtol=1e-3)


def test_deviations_within_the_tolerance_score_zero() -> None:
    images = parts(7)
    method = learned(Variation(tolerance=0.11), images)
    assert method(images[:1] + 0.09).score == 0
    assert method(images[:1] + 0.2).score > 0


def test_robust_statistics_ignore_nan() -> None:
    values = torch.tensor([[1.0], [torch.nan], [2.0], [torch.nan], [9.0]])
    center, spread = robust_statistics(values)
    assert center.item() == 2
    assert spread.item() == pytest.approx(1.4826)


def test_pixels_that_were_padding_in_training_do_not_score() -> None:
    narrow = parts(7)
    narrow[:, :, :, 40:] = torch.nan
    prediction = learned(Variation(), narrow)(parts(1, seed=1))
    assert torch.isfinite(prediction.anomaly_map).all()
    assert prediction.anomaly_map[0, :, 60:].max() < 0.1 * prediction.score[0]
