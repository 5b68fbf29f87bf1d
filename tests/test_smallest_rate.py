"""False-alarm rates too small for any number of images are refused."""

from typing import Any

import pytest

from blemish.calibration import SMALLEST_RATE, Calibration
from blemish.cli.options import false_alarm_rate_type

ONE: dict[str, Any] = {"scores": [1.0], "map_peaks": [1.0], "map_typical": [0.0]}


@pytest.mark.parametrize("rate", [1e-310, 9e-7])
def test_rate_below_one_in_a_million_is_refused(rate: float) -> None:
    match = rf"must be between 0 and 1 \(0\.01 is 1 %\) and at least 1e-06, got {rate}"
    calibration = Calibration.from_normal(**ONE, false_alarm_rate=SMALLEST_RATE)
    assert "at least 999999 independent images" in calibration.summary()
    with pytest.raises(ValueError, match=match):
        Calibration.from_normal(**ONE, false_alarm_rate=rate)
    with pytest.raises(ValueError, match=match):
        calibration.with_false_alarm_rate(rate)
    with pytest.raises(
        ValueError, match=f"false_alarm_rate must be a number from 1e-06 to below 1, got {rate:g}"
    ):
        calibration.changed(false_alarm_rate=rate)


def test_command_line_has_the_same_bound() -> None:
    assert (false_alarm_rate_type.min, false_alarm_rate_type.min_open) == (SMALLEST_RATE, False)
