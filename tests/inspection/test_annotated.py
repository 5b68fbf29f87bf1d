"""The annotated image of an inspection: a small defect stays visible, and every size can be drawn and written."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.data.images import read_image
from blemish.inspection.annotated import LARGEST, draw_annotated, zoom_peak
from blemish.inspection.result import COLOURS, Inspection
from blemish.inspection.verdict import Judge
from blemish.types import Verdict

CALIBRATION = Calibration.from_normal([1.0, 2.0], [1.0, 2.0], [0.0, 0.0], 0.5)
BLUE = (10, 20, 250)


def inspected(size: tuple[int, int], *, side: int = 10, score: float = 3.0, peak: float = 4.0) -> Inspection:
    """A grey image with a blue square of anomaly `peak` in its lower right quarter."""
    height, width = size
    image = np.full((*size, 3), 120, np.uint8)
    anomaly_map = np.zeros(size, np.float32)
    place = slice(3 * height // 4, 3 * height // 4 + side), slice(3 * width // 4, 3 * width // 4 + side)
    image[place], anomaly_map[place] = BLUE, peak
    return Judge(CALIBRATION).judge(score, anomaly_map, image, None)


def count(drawn: NDArray[np.uint8], colour: tuple[int, ...]) -> int:
    return int((drawn == colour).all(axis=2).sum())


def test_the_peak_is_enlarged_without_colours() -> None:
    found = inspected((1200, 1600))
    plain, painted = zoom_peak(found)
    share = count(plain, BLUE) / (plain.shape[0] * plain.shape[1])
    assert share == pytest.approx(10**2 / 100**2)
    assert plain.shape == painted.shape == (400, 400, 3)
    assert count(painted, BLUE) == 0


@pytest.mark.parametrize("size", [(1200, 1600), (2400, 3200)])
def test_a_defect_of_ten_pixels_is_seen_in_the_annotated_image(size: tuple[int, int]) -> None:
    drawn = draw_annotated(inspected(size))
    flawless = draw_annotated(inspected(size, side=0, score=1.0))
    # The enlarged square, and the corners of the marker: white where the image is grey.
    assert count(drawn, BLUE) >= 20**2
    heat_map = slice(80, 80 + LARGEST * 3 // 4), slice(12, LARGEST)
    assert count(drawn[heat_map], (255, 255, 255)) > count(flawless[heat_map], (255, 255, 255)) + 200


@pytest.mark.parametrize(("score", "verdict"), [(3.0, "NG"), (1.0, "OK")])
def test_the_verdict_is_written_in_its_colour(score: float, verdict: Verdict) -> None:
    drawn = draw_annotated(inspected((90, 120), score=score))
    counts = {name: count(drawn, colour) for name, colour in COLOURS.items()}
    assert counts[verdict] > 100
    assert sum(counts.values()) == counts[verdict]


@pytest.mark.parametrize("size", [(500, 3), (5000, 60), (3, 500)])
def test_the_verdict_of_a_strip_is_written_whole(size: tuple[int, int]) -> None:
    verdict = count(draw_annotated(inspected((90, 120))), COLOURS["NG"])
    assert count(draw_annotated(inspected(size)), COLOURS["NG"]) == verdict


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (3, 500), (500, 3), (40, 30), (90, 120), (900, 300), (4, 70000), (2000, 2000)]
)
@pytest.mark.parametrize("peak", [0.0, 1.0, 4.0])
def test_every_size_is_written_as_jpeg(tmp_path: Path, size: tuple[int, int], peak: float) -> None:
    found = inspected(size, side=1, peak=peak)
    drawn = read_image(found.save(tmp_path / "a.jpg"))
    assert drawn.shape == draw_annotated(found).shape
    assert max(drawn.shape) < 2600


def test_texts_are_english_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The font has no Chinese."""
    found = inspected((120, 160), score=3.0, peak=0.0)
    expected = draw_annotated(found)
    monkeypatch.setenv("LANGUAGE", "zh")
    assert found.reason is not None
    assert not found.reason.isascii()
    np.testing.assert_array_equal(draw_annotated(found), expected)
