"""`Model.inspect_many`: order, folders, and images that cannot be read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.inspection.result import Inspection, Unreadable
from blemish.model import Model
from blemish.types import Sample
from scripted_model import Scripted
from tiny_product import draw_part, normal_samples


@pytest.fixture
def images(tmp_path: Path) -> list[Any]:
    """Files, a folder, an array and a sample, with four that cannot be read among them."""
    for seed in (0, 1, 2):
        write_image(tmp_path / f"{seed}.png", draw_part(seed, (40 + seed, 50), defect=seed % 2))
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True)
    for seed in (10, 9):
        write_image(folder / f"{seed}.png", draw_part(seed))
    (tmp_path / "bad.png").write_text("text")
    return [
        tmp_path / "0.png",
        str(tmp_path / "1.png"),
        tmp_path / "bad.png",
        draw_part(7),
        np.zeros((4, 5, 4), np.uint8),
        Sample(tmp_path / "2.png", 0, "test"),
        folder,
        folder / "empty",
        tmp_path / "absent.png",
    ]


def test_many_images_come_in_order_and_bad_ones_in_their_place(
    model: Model, images: list[Any], tmp_path: Path
) -> None:
    found = list(model.inspect_many(images))
    read = ["0.png", "1.png", None, "2.png", "folder/9.png", "folder/10.png"]
    expected = [model.inspect(draw_part(7) if name is None else tmp_path / name) for name in read]
    readable = [one for one in found if isinstance(one, Inspection)]
    for one, alone in zip(readable, expected, strict=True):
        assert (one.path, one.verdict, one.regions) == (alone.path, alone.verdict, alone.regions)
        assert one.score == pytest.approx(alone.score, rel=1e-5)
        np.testing.assert_array_equal(one.image, alone.image)
    bad = {index: one for index, one in enumerate(found) if isinstance(one, Unreadable)}
    assert {index: (one.path, str(one.error)) for index, one in bad.items()} == {
        2: (
            tmp_path / "bad.png",
            f"{tmp_path / 'bad.png'} is not a PNG, JPEG, BMP, TIFF or WebP image, whatever its name. Convert it or "
            "remove it.",
        ),
        4: (
            None,
            "An image is an (H, W, 3) RGB or (H, W) grey array of uint8 or uint16, got (4, 5, 4) of uint8. Convert it, "
            "or give the path of a file.",
        ),
        8: (
            tmp_path / "folder" / "empty",
            f"{tmp_path / 'folder' / 'empty'} holds no images. Name an image, or a folder that holds images.",
        ),
        9: (tmp_path / "absent.png", f"{tmp_path / 'absent.png'} does not exist. Check the path."),
    }


def test_a_single_path_or_array_is_not_taken_for_many(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    normal_samples(folder, 2)
    assert [found.path for found in model.inspect_many(str(folder))] == [
        folder / "000.png",
        folder / "001.png",
    ]
    assert [found.path for found in model.inspect_many(folder / "001.png")] == [folder / "001.png"]
    assert len(list(model.inspect_many(draw_part(0)))) == 1


def test_many_images_are_taken_as_they_are_needed(model: Model) -> None:
    model.manifest = model.manifest.changed(preprocess=Preprocess(size=(256, 256)))
    model.runtime = Scripted(
        lambda images: (np.ones(len(images), np.float32), np.ones((len(images), 256, 256), np.float32))
    )
    taken: list[int] = []

    def images() -> Iterator[Any]:
        for seed in range(1000):
            taken.append(seed)
            yield draw_part(0)

    assert isinstance(next(model.inspect_many(images())), Inspection)
    assert len(taken) < 20
