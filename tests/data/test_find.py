"""Which files are images, in folders that are searched and in every layout."""

import sys
from pathlib import Path

import pytest

from blemish.data.dataset import open_dataset
from blemish.data.find import entries_of, find_images, natural_order
from blemish.data.images import read_image
from blemish.errors import DataError
from cli_data import draw_part, write

CONTENT = {  # the first bytes of each format
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0",
    "bmp": b"BM",
    "tiff": b"II*\0",
    "webp": b"RIFF\0\0\0\0WEBP",
    "gif": b"GIF89a",
}
FOUND = ("a.png", "b.JPG", "c.tiff", "d.jfif", "e.JPE", "f.gif", "g.heic", "h.pgm", *CONTENT)
PASSED_OVER = ("._a.png", ".hidden.png", "Thumbs.db", "a.txt", "notes", "png.txt", "empty")
FOLDERS_PASSED_OVER = (
    ".ipynb_checkpoints",
    ".Trash-1000",
    "$RECYCLE.BIN",
    "@eaDir",
    "lost+found",
    "__MACOSX",
)


def fill(folder: Path) -> Path:
    """Names that are images and names that are not."""
    folder.mkdir(parents=True)
    for name in FOUND + PASSED_OVER:
        (folder / name).write_bytes(CONTENT.get(name, b"text" if name == "notes" else b""))
    for name in FOLDERS_PASSED_OVER:
        write(folder / name / "1.png", draw_part(0))
    return folder


def test_files_and_folders_are_searched_once_in_natural_order(tmp_path: Path) -> None:
    for name in ("a/10.png", "a/2.png", "a/b/1.jpg", "a/.hidden.png", "c.png", "maps/1_heatmap.jpg"):
        write(tmp_path / name, draw_part(0))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    a = tmp_path / "a"
    expected = {a / "2.png": a, a / "10.png": a, a / "b/1.jpg": a}
    assert list(find_images([a, a / "2.png"]).items()) == list(expected.items())
    assert find_images([str(tmp_path / "c.png")]) == {tmp_path / "c.png": tmp_path}
    everything = find_images([tmp_path], skip=tmp_path / "maps")
    assert set(everything) == {*expected, tmp_path / "c.png"}
    assert tmp_path / "maps/1_heatmap.jpg" in find_images([tmp_path / "maps"], skip=tmp_path / "maps")


def test_what_is_not_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "absent.png", tmp_path / "empty"]
    assert find_images(paths) == {paths[0]: tmp_path, paths[1]: paths[1]}


def test_one_rule_for_searches_and_layouts(tmp_path: Path) -> None:
    expected = set(FOUND)
    flat = fill(tmp_path / "flat")
    assert {path.name for path in entries_of(flat).images} == expected
    assert {path.name for path in find_images([flat])} == expected
    assert {sample.path.name for sample in open_dataset(flat).train} == expected
    for folder in ("train/good", "test/good", "test/hole"):
        fill(tmp_path / "split" / folder)
    data = open_dataset(tmp_path / "split")
    assert [sample.path.name for sample in data.train] == [path.name for path in entries_of(flat).images]
    assert len(data.test) == 2 * len(expected)


def test_hidden_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    image = write(tmp_path / ".cache" / "1.png", draw_part(0))
    assert list(find_images([tmp_path / ".cache"])) == [image]
    assert list(find_images([tmp_path])) == [tmp_path]


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE"])
def test_images_with_the_rarer_suffixes_are_written_and_read(tmp_path: Path, name: str) -> None:
    assert read_image(write(tmp_path / name, draw_part(0))).shape == draw_part(0).shape


def test_format_that_is_not_supported_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (image,) = find_images([tmp_path])
    with pytest.raises(DataError, match=r"a\.heic is not a PNG, JPEG, BMP, TIFF or WebP image"):
        read_image(image)


@pytest.mark.skipif(sys.platform == "win32", reason="links are those of POSIX")
def test_link_that_leads_nowhere_is_kept_whatever_its_name(tmp_path: Path) -> None:
    broken = {tmp_path / "gone.png", tmp_path / "batch", tmp_path / "batch.1"}
    for link in broken:
        link.symlink_to(tmp_path / "absent")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / ".gone.png").symlink_to(tmp_path / "absent")
    write(tmp_path / "elsewhere" / "1.png", draw_part(0))
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    found = entries_of(tmp_path)
    assert set(found.images) == {*broken, tmp_path / "loop"}
    assert found.folders == [tmp_path / "elsewhere", tmp_path / "linked"]


def test_natural_order() -> None:
    names = ["b/1.png", "a/10.png", "a/9.png", "a/09.png", "a/x.png", "10/a.png", "9/a.png"]
    ordered = [path.as_posix() for path in sorted(map(Path, names), key=natural_order)]
    assert ordered == ["9/a.png", "10/a.png", "a/09.png", "a/9.png", "a/10.png", "a/x.png", "b/1.png"]
