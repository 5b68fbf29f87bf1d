"""A doubled set of demo images: every near-copy is found, and no two parts are taken for one."""

from pathlib import Path

import numpy as np
import pytest

from blemish.data.images import encode, read_image, write_image
from blemish.data.preprocess import Preprocess
from blemish.demo import render_part
from blemish.errors import DataError
from blemish.opencv import cv2
from blemish.types import no_progress
from blemish.workflow.near_copies import Seen, find_near_copies, look_at

PARTS = 12
PREPROCESS = Preprocess(size=(192, 256))


def seen(paths: list[Path]) -> Seen:
    return look_at(paths, PREPROCESS, "cpu", no_progress)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    paths = [folder / f"{number:02}.png" for number in range(PARTS)]
    for number, path in enumerate(paths):
        write_image(path, render_part(np.random.default_rng((7, number)), size=(240, 320)).image)
    return paths


def changed(image: np.ndarray, kind: str) -> np.ndarray:
    height, width = image.shape[:2]
    if kind == "resized":
        return np.asarray(cv2.resize(image, (width * 3 // 4, height * 3 // 4), interpolation=cv2.INTER_AREA))
    if kind == "photographed again":  # turned by one degree, darker, with noise of its own
        motion = cv2.getRotationMatrix2D((width / 2, height / 2), 1, 1)
        turned = cv2.warpAffine(image, motion, (width, height), borderMode=cv2.BORDER_REPLICATE)
        noise = np.random.default_rng(0).normal(0, 2, image.shape)
        return np.clip(turned * 0.9 + noise, 0, 255).astype(np.uint8)
    shifted = np.roll(image, 3, axis=1)
    return np.clip(np.rint(shifted * 1.03), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["shifted and brighter", "resized", "photographed again"])
def test_every_copy_of_a_doubled_set_is_found(parts: list[Path], tmp_path: Path, kind: str) -> None:
    copies = []
    for path in parts:
        data = encode(
            changed(read_image(path), kind).astype(np.uint8), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 85]
        )
        assert data is not None
        copies.append(tmp_path / f"{path.stem}.jpg")
        copies[-1].write_bytes(data)
    groups = find_near_copies(seen([*parts, *copies]), no_progress)
    assert [group.places for group in groups] == [[number, number + PARTS] for number in range(PARTS)]
    assert all(0.7 < group.correlation <= 1 for group in groups)


def test_different_parts_are_no_copies(parts: list[Path]) -> None:
    assert find_near_copies(seen(parts), no_progress) == []


def test_one_image_has_no_copy(parts: list[Path]) -> None:
    assert find_near_copies(seen(parts[:1]), no_progress) == []


def test_unreadable_images_are_listed_and_the_others_keep_their_numbers(
    parts: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = seen([parts[0], broken, parts[1]])
    assert found.readable == [0, 2]
    assert [bad.path for bad in found.unreadable] == [broken]
    expected = cv2.cvtColor(PREPROCESS(read_image(parts[1])).transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(found.as_float(1), expected, atol=0.003)
    with pytest.raises(DataError, match=r"^None of the 1 images can be read: .*broken\.png"):
        seen([broken])
