"""Every image has a heat map of its own, and no image is overwritten by one."""

from pathlib import Path

import pytest

from blemish.data.find import find_images
from blemish.errors import DataError
from blemish.inspection.heatmap_files import plan_heat_maps
from cli_data import draw_part, write


def test_every_image_has_a_heat_map_of_its_own(tmp_path: Path) -> None:
    names = ["a/1.png", "a/1.jpg", "a/b/1.png", "c/1.png"]
    for name in names:
        write(tmp_path / name, draw_part(0))
    output = tmp_path / "maps"

    planned = plan_heat_maps(find_images([tmp_path / "a", tmp_path / "c/1.png"]), output)
    assert {path: file.relative_to(output).as_posix() for path, file in planned.items()} == {
        tmp_path / "a/1.jpg": "a/1_heatmap.jpg",
        tmp_path / "a/1.png": "a/1.png_heatmap.jpg",
        tmp_path / "a/b/1.png": "a/b/1_heatmap.jpg",
        tmp_path / "c/1.png": "c/1_heatmap.jpg",
    }


def test_a_heat_map_never_overwrites_an_image(tmp_path: Path) -> None:
    for name in ("1.png", "1_heatmap.jpg"):
        write(tmp_path / name, draw_part(0))
    with pytest.raises(DataError) as error:
        plan_heat_maps(find_images([tmp_path]), tmp_path)
    assert str(error.value) == (
        f"The heat map of {tmp_path / '1.png'} would overwrite another image. Name another folder for the heat maps."
    )
