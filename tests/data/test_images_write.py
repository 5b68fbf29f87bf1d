"""Images that are written are read back, and what cannot be written is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.data.images import write_image
from image_examples import GREY, GREY16, RGB, RGB16, as_rgb, expect


def test_names_in_chinese_and_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "瓶子 第一批"
    folder.mkdir()
    for name, pixels in (("好 样品.png", RGB), ("样品 №2.tif", RGB16), ("深.png", RGB16), ("图.bmp", RGB)):
        write_image(folder / name, pixels)
        expect(folder / name, pixels)
    assert sorted(p.suffix for p in folder.iterdir()) == [".bmp", ".png", ".png", ".tif"]  # no drafts left


@pytest.mark.parametrize(
    "pixels", [GREY, RGB, GREY16, RGB16, GREY > 90], ids=["g", "rgb", "g16", "rgb16", "mask"]
)
@pytest.mark.parametrize("suffix", [".png", ".TIF"])
def test_written_is_read(tmp_path: Path, pixels: NDArray[Any], suffix: str) -> None:
    write_image(tmp_path / f"w{suffix}", pixels)
    shown = pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels
    expect(tmp_path / f"w{suffix}", shown if shown.ndim == 3 else as_rgb(shown))


def test_writing_replaces_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.png"
    write_image(path, RGB)
    write_image(path, GREY)
    expect(path, as_rgb(GREY))
    with pytest.raises(ValueError, match=r"float64 pixels cannot be written. Use uint8"):
        write_image(path, np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"uint16 pixels cannot be written"):
        write_image(tmp_path / "w.jpg", RGB16)
    with pytest.raises(ValueError, match=r"got \(3, 3, 2\)"):
        write_image(path, np.zeros((3, 3, 2), np.uint8))
    with pytest.raises(ValueError, match=r"suffix must be that of PNG, JPEG, BMP, TIFF or WebP"):
        write_image(tmp_path / "w.xyz", RGB)

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(path, RGB)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]
    expect(path, as_rgb(GREY))
