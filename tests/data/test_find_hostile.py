"""Files and folders that cannot be read are reported one by one, and never hang or end a search."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.data.find import find_images
from blemish.data.images import content_fingerprint, read_image, write_image
from blemish.errors import DataError
from blemish.inspection.heatmap_files import plan_heat_maps
from blemish.inspection.result import Inspection, Unreadable
from cli_data import draw_part, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are those of POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> blemish.Model:
    images = [write(tmp_path_factory.mktemp("normal") / f"{i}.png", draw_part(i)) for i in range(4)]
    return blemish.fit("template", images, preprocess=blemish.Preprocess(size=(48, 64)))


def test_output_folder_that_holds_the_images_does_not_hide_them(tmp_path: Path) -> None:
    inside = write(tmp_path / "new" / "1.png", draw_part(0))
    other = write(tmp_path / "2.png", draw_part(1))
    found = find_images([tmp_path / "new", other], skip=tmp_path)
    assert set(found) == {inside, other}
    assert set(plan_heat_maps(found, tmp_path)) == {inside, other}


def test_links_are_followed_once(tmp_path: Path) -> None:
    a = write(tmp_path / "in" / "sub" / "1.png", draw_part(0))
    outside = write(tmp_path / "out" / "2.png", draw_part(0))
    root = tmp_path / "in"
    (root / "a-link").symlink_to(root / "sub")
    (root / "loop").symlink_to(root)
    (root / "other").symlink_to(outside.parent)
    (root / "gone.png").symlink_to(tmp_path / "absent.png")
    assert set(find_images([root])) == {a, root / "other" / "2.png", root / "gone.png"}


def test_what_cannot_be_read_is_reported_and_the_rest_inspected(model: blemish.Model, tmp_path: Path) -> None:
    root = tmp_path / "in"
    write(root / "1.png", draw_part(0))
    (root / "gone.png").symlink_to(tmp_path / "absent.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe.png")
    long = tmp_path / ("n" * 300)
    results = list(model.inspect_many([root, long]))
    assert [type(result) for result in results] == [Inspection, *[Unreadable] * 4]
    errors = [str(result.error) for result in results if isinstance(result, Unreadable)]
    end = "Check that it is a file that you may read."
    assert errors == [
        f"{root / 'gone.png'} does not exist. Check the path.",
        f"{root / 'loop.png'} cannot be opened: Too many levels of symbolic links. {end}",
        f"{root / 'pipe.png'} cannot be opened: Not a regular file. {end}",
        f"{long} cannot be opened: File name too long. {end}",
    ]
    assert len(plan_heat_maps(find_images([root]), tmp_path / "maps")) == 4


def test_pipe_is_not_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (content_fingerprint, read_image):
        with pytest.raises(DataError, match="Not a regular file"):
            read(tmp_path / "pipe.png")


@pytest.mark.parametrize("refused", ["scandir", "access"])
def test_subfolder_that_may_not_be_read_is_reported(
    model: blemish.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Permissions do not hold for root, so the system calls refuse here."""
    write(tmp_path / "in" / "1.png", draw_part(0))
    closed = write(tmp_path / "in" / "closed" / "deeper" / "2.png", draw_part(0)).parent.parent
    original = getattr(os, refused)

    def refuse(path: Path, *arguments: int) -> object:
        if Path(path) != closed:
            return original(path, *arguments)
        if refused == "access":
            return False
        raise PermissionError

    monkeypatch.setattr(os, refused, refuse)
    results = list(model.inspect_many(tmp_path / "in"))
    assert [type(result) for result in results] == [Inspection, Unreadable]
    assert isinstance(results[1], Unreadable)
    assert str(results[1].error) == (
        f"{closed} cannot be searched for images. Check that you may read the folder."
    )


@pytest.mark.parametrize(("name", "side"), [("w.webp", 16384), ("w.jpg", 65536)])
def test_image_too_large_for_its_format_is_a_clear_error(tmp_path: Path, name: str, side: int) -> None:
    with pytest.raises(DataError) as caught:
        write_image(tmp_path / name, np.zeros((1, side, 3), np.uint8))
    assert str(caught.value) == f"{name}: {side}×1 pixels are too many for this format. Write a PNG."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", ["n" * 250, "图" * 83])
def test_heat_map_of_the_longest_name_can_be_written(tmp_path: Path, stem: str) -> None:
    image = write(tmp_path / "in" / f"{stem}.png", draw_part(0))
    (file,) = plan_heat_maps(find_images([image]), tmp_path / "maps").values()
    assert write(file, draw_part(0)).is_file()
    assert file.name.startswith(stem[:60])
    assert file.name.endswith("_heatmap.jpg")
