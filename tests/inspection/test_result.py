"""An inspection shows itself: its overlay, its file, what a notebook displays."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.data.images import read_image
from blemish.errors import DataError
from blemish.inspection.annotated import draw_annotated
from blemish.inspection.result import NOTEBOOK_SIDE, Inspection, Unreadable
from blemish.regions import find_regions

CALIBRATION = Calibration.from_normal([1.0, 2.0], [1.0, 2.0], [0.0, 0.0], 0.5)
"""Image and pixel thresholds of 2; a typical pixel has 0, so half the threshold is 1."""


def inspection(
    size: tuple[int, int] = (90, 120), path: Path | None = None, *, deep: bool = False
) -> Inspection:
    """A grey image whose map is 0 but for a square of 3 (1.5 times the threshold)."""
    image = np.random.default_rng(0).integers(90, 110, (*size, 3)).astype(np.uint8)
    anomaly_map = np.zeros(size, np.float32)
    anomaly_map[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 3.0
    mask, regions = find_regions(
        anomaly_map, image, CALIBRATION.pixel_threshold, CALIBRATION.region_threshold
    )
    pixels = image.astype(np.uint16) * 257 if deep else image
    return Inspection(path, 3.0, "NG", regions, pixels, anomaly_map, mask, CALIBRATION)


def shown_images(found: Inspection) -> list[NDArray[np.uint8]]:
    """The RGB images that the HTML holds."""
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', found._repr_html_())
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR) for uri in uris]
    return [np.asarray(pixels, np.uint8)[..., ::-1] for pixels in decoded if pixels is not None]


def test_the_threshold_is_that_of_the_calibration() -> None:
    assert inspection().threshold == CALIBRATION.image_threshold == 2.0


@pytest.mark.parametrize("deep", [False, True])
def test_the_overlay_is_the_image_with_the_defect_painted_and_outlined(deep: bool) -> None:
    found, plain = inspection(deep=deep), inspection().image
    painted = found.overlay()
    assert painted.dtype == np.uint8
    inside = np.zeros((90, 120), bool)
    inside[30:45, 40:60] = True
    near = cv2.dilate(inside.astype(np.uint8), np.ones((11, 11))) > 0
    np.testing.assert_array_equal(painted[~near], plain[~near])
    assert (painted[27, 42:58] == 255).all(), "a white line"
    # 1.5 times the threshold: 44 % of (222, 56, 52) over the image, everywhere inside
    expected = 0.56 * plain[inside] + 0.44 * np.array([222, 56, 52])
    np.testing.assert_allclose(painted[inside], expected, atol=1.5)


def test_the_annotated_image_is_saved_in_a_folder_that_is_made(tmp_path: Path) -> None:
    found = inspection()
    target = tmp_path / "热图 new" / "a" / "1.png"
    assert found.save(str(target)) == target
    np.testing.assert_array_equal(read_image(target), draw_annotated(found))


@pytest.mark.parametrize("size", [(90, 120), (1200, 2000), (1500, 400)])
def test_a_notebook_shows_image_and_heat_map_side_by_side(size: tuple[int, int]) -> None:
    found = inspection(size)
    image, heat_map = shown_images(found)
    factor = min(1, NOTEBOOK_SIDE / max(size))
    assert image.shape == heat_map.shape == (round(size[0] * factor), round(size[1] * factor), 3)
    assert np.abs(image.astype(int) - 100).mean() < 10
    assert (heat_map[..., 0].astype(int) - heat_map[..., 2]).max() > 60, "the defect is painted red"
    text = found._repr_html_()
    assert ">NG</b> score 3, threshold 2, regions 1<br>" in text


def test_a_hostile_name_is_only_text() -> None:
    text = inspection(path=Path("<script>alert('x')</script>.png"))._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_repr_is_one_short_line() -> None:
    assert repr(inspection(path=Path("a b/1.png"))) == (
        "Inspection(NG, score=3, threshold=2, regions=1, size=90×120, path='a b/1.png')"
    )
    assert repr(inspection()).endswith("size=90×120, path=None)")


def test_an_unreadable_image_in_json() -> None:
    assert Unreadable(Path("a.png"), DataError("a.png is empty")).to_dict() == {
        "path": "a.png",
        "error": "a.png is empty",
    }
    assert Unreadable(None, DataError("no")).to_dict()["path"] is None
