"""The verdict: NG always has a region, and a difference of verdict and regions is explained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.calibration import Calibration
from blemish.inspection.result import Inspection
from blemish.inspection.verdict import Judge
from blemish.regions import highest_pixel
from blemish.types import Map

CALIBRATION = Calibration.from_normal([1.0, 2.0], [2.0, 4.0], [0.0, 0.0], 0.5)
"""Image threshold 2, pixel threshold 4."""


def judged(score: float, anomaly_map: Map) -> Inspection:
    image = np.zeros((*anomaly_map.shape, 3), np.uint8)
    return Judge(CALIBRATION).judge(score, anomaly_map, image, None)


maps = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 8, width=32)
)


@settings(deadline=None, max_examples=100)
@given(maps, st.floats(0, 4))
def test_ng_always_marks_the_peak(anomaly_map: Map, score: float) -> None:
    found = judged(score, anomaly_map)
    assert found.verdict == ("NG" if score > 2 else "OK")
    assert found.defect_mask[anomaly_map > 4].all()
    assert not found.defect_mask[anomaly_map <= found.calibration.region_threshold].any()
    if found.verdict == "NG" or found.regions:
        first = found.regions[0]
        assert first.peak == anomaly_map.max() == anomaly_map[first.peak_y, first.peak_x]
    assert (found.reason is None) == ((found.verdict == "NG") == bool(found.defect_mask.any()))


def test_ng_without_a_defective_pixel_says_so() -> None:
    anomaly_map = np.ones((5, 6), np.float32)
    anomaly_map[2, 4] = 3.5
    found = judged(3.0, anomaly_map)
    assert found.regions == (highest_pixel(anomaly_map, found.image, 4),)
    assert found.reason == "no pixel is above the pixel threshold 4; the region is the highest one, 3.5"
    assert found.to_dict()["reason"] == found.reason


def test_ok_with_defective_pixels_says_so() -> None:
    found = judged(1.0, np.full((3, 3), 9.0, np.float32))
    assert len(found.regions) == 1
    assert (
        found.reason
        == "pixels are above the pixel threshold 4, but the score is not above the image threshold"
    )


@pytest.mark.parametrize(("score", "peak"), [(1.0, 1.0), (3.0, 9.0)])
def test_verdicts_that_agree_have_no_reason(score: float, peak: float) -> None:
    assert judged(score, np.full((3, 3), peak, np.float32)).reason is None
