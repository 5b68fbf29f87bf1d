"""The image files of files and folders."""

from pathlib import Path

from blemish.data.find import find_images
from cli_data import draw_part, write


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
