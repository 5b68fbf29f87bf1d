"""The product that blemish makes itself: deterministic, and defective exactly inside its masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.demo import DEFECT_TYPES, Part, add_defect, render_part, write_product

SMALL = (120, 160)


@pytest.fixture(scope="module")
def part() -> Part:
    return render_part(np.random.default_rng(3), size=(240, 320))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


@pytest.mark.parametrize("defect_type", DEFECT_TYPES)
def test_a_defect_is_nowhere_outside_its_mask(part: Part, defect_type: str) -> None:
    for draw in range(3):
        image, mask = add_defect(part, defect_type, np.random.default_rng(draw))
        assert image.shape == (240, 320, 3)
        assert mask.shape == (240, 320)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(image[~mask], part.image[~mask])
        change = np.abs(image.astype(int) - part.image).max(2)
        assert 10 <= mask.sum() < 0.5 * mask.size
        assert np.median(change[mask]) > 2, "most of the mask must differ visibly from the normal part"


@pytest.mark.parametrize("defect_type", DEFECT_TYPES)
def test_defects_vary_and_leave_the_good_part_alone(part: Part, defect_type: str) -> None:
    before = part.image.copy()
    masks = [add_defect(part, defect_type, np.random.default_rng(draw))[1] for draw in range(8)]
    assert len({mask.tobytes() for mask in masks}) >= 4
    np.testing.assert_array_equal(part.image, before)


def test_the_same_stream_gives_the_same_image(part: Part) -> None:
    again = render_part(np.random.default_rng(3), size=(240, 320))
    other = render_part(np.random.default_rng(4), size=(240, 320))
    np.testing.assert_array_equal(part.image, again.image)
    assert np.abs(part.image.astype(int) - other.image).mean() > 1, "light, pose and finish must vary"
    for defect_type in DEFECT_TYPES:
        first, first_mask = add_defect(part, defect_type, np.random.default_rng(8))
        second, second_mask = add_defect(again, defect_type, np.random.default_rng(8))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first_mask, second_mask)


def test_the_camera_neither_clips_nor_starves() -> None:
    for seed in range(4):
        image = render_part(np.random.default_rng(seed)).image
        assert image.shape == (480, 640, 3)
        assert image.dtype == np.uint8
        assert (image == 255).mean() < 0.02
        assert (image == 0).mean() < 0.02
        plate, belt = image[210:270, 280:500], image[:30]
        assert plate.mean() > belt.mean() + 60


def test_an_unknown_defect_type_is_refused(part: Part) -> None:
    with pytest.raises(
        ValueError, match=r"no defect type 'rust'\. Use one of scratch, dent, .*discolouration"
    ):
        add_defect(part, "rust", np.random.default_rng(0))


def test_write_product_follows_mvtecs_layout(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    folder = write_product(
        tmp_path / "零件 plate",
        train=3,
        test_good=2,
        per_defect=1,
        size=SMALL,
        progress=lambda *call: calls.append(call),
    )
    expected = {f"train/good/00{index}.png" for index in range(3)}
    expected |= {f"test/good/00{index}.png" for index in range(2)}
    expected |= {f"test/{kind}/000.png" for kind in DEFECT_TYPES}
    expected |= {f"ground_truth/{kind}/000_mask.png" for kind in DEFECT_TYPES}
    found = digests(folder)
    assert set(found) == expected
    assert len(set(found.values())) == len(found), "all images differ"
    assert calls[0] == ("rendering images", 0, 11)
    assert calls[-1] == ("rendering images", 11, 11)
    for kind in DEFECT_TYPES:
        data = (folder / "ground_truth" / kind / "000_mask.png").read_bytes()
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == SMALL
        assert set(np.unique(mask)) == {0, 255}


def test_more_images_keep_the_first_ones(tmp_path: Path) -> None:
    few = digests(write_product(tmp_path / "few", train=2, test_good=1, per_defect=1, size=SMALL, seed=5))
    many = digests(write_product(tmp_path / "many", train=3, test_good=2, per_defect=2, size=SMALL, seed=5))
    other = digests(write_product(tmp_path / "other", train=2, test_good=1, per_defect=1, size=SMALL, seed=6))
    assert few.items() <= many.items()
    assert not set(few.values()) & {value for name, value in other.items() if "mask" not in name}


def test_an_image_too_small_for_the_print_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at least 96 pixels high and wide, got \(64, 640\)"):
        write_product(tmp_path, size=(64, 640))
