"""Each layout built on disk and read back."""

import os
import re
from pathlib import Path

import pytest

from blemish.data.dataset import list_categories, open_dataset
from blemish.data.layouts import LAYOUTS, find_layout
from blemish.errors import DataError
from blemish.types import Sample
from empty_files import touch


def brief(samples: tuple[Sample, ...], root: Path) -> list[tuple[str, int, str, str, str]]:
    return [
        (
            s.path.relative_to(root).as_posix(),
            s.label,
            s.split,
            s.defect_type,
            s.mask_path.relative_to(root).as_posix() if s.mask_path else "",
        )
        for s in samples
    ]


def make_mvtec(root: Path) -> None:
    touch(
        root,
        "train/good/10.png",
        "train/good/9.png",
        "test/good/0.png",
        "test/hole/0.png",
        "test/刮 痕/1.jpg",
    )
    touch(root, "ground_truth/hole/0_mask.png", "ground_truth/刮 痕/1.bmp")
    touch(
        root,
        "train/good/Thumbs.db",
        "train/good/.x.png",
        "train/good/._9.png",
        "test/.DS_Store",
        "readme.txt",
    )


def test_mvtec_category(tmp_path: Path) -> None:
    root = tmp_path / "螺 丝"
    make_mvtec(root)
    data = open_dataset(root)
    assert data.layout == "mvtec"
    assert data.categories == ("螺 丝",)
    assert data.has_masks
    assert brief(data.samples, root) == [
        ("test/good/0.png", 0, "test", "good", ""),
        ("test/hole/0.png", 1, "test", "hole", "ground_truth/hole/0_mask.png"),
        ("test/刮 痕/1.jpg", 1, "test", "刮 痕", "ground_truth/刮 痕/1.bmp"),
        ("train/good/9.png", 0, "train", "good", ""),
        ("train/good/10.png", 0, "train", "good", ""),
    ]
    assert [s.path.name for s in data.train] == ["9.png", "10.png"]
    assert len(data.test) == 3


def test_mvtec_root_of_many(tmp_path: Path) -> None:
    for name in ("cable", "bottle"):
        make_mvtec(tmp_path / name)
    touch(tmp_path, "license.txt", "other/file.txt")
    with pytest.raises(DataError, match=r"has 2 categories: bottle, cable\. Choose one with --category NAME"):
        open_dataset(tmp_path)
    assert list_categories(tmp_path) == ("bottle", "cable")
    data = open_dataset(tmp_path, category="cable")
    assert data.categories == ("cable",)
    assert len(data.samples) == 5
    with pytest.raises(DataError, match=r"has no category 'nut'\. Choose one of bottle, cable"):
        open_dataset(tmp_path, category="nut")


def test_category_of_a_relative_path_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mvtec(tmp_path / "screw")
    monkeypatch.chdir(tmp_path / "screw")
    assert open_dataset(".").categories == ("screw",)


@pytest.mark.parametrize(
    ("removed", "count"), [(["hole/0_mask.png"], 1), (["hole/0_mask.png", "刮 痕/1.bmp"], 2)]
)
def test_missing_masks_are_counted(tmp_path: Path, removed: list[str], count: int) -> None:
    make_mvtec(tmp_path)
    for name in removed:
        (tmp_path / "ground_truth" / name).unlink()
    problem = rf"^{count} of 2 anomalous test images have no mask, the first is .*hole/0\.png: "
    looked_for = r"there is neither .*ground_truth/hole/0_mask\.png nor 0\.png, with any image suffix\. "
    with pytest.raises(DataError, match=problem + looked_for + "Add the masks, or use --layout folder"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, layout="folder")
    assert not data.has_masks
    assert len(data.samples) == 5


def test_one_damaged_category_does_not_stop_another(tmp_path: Path) -> None:
    for name in ("cable", "bottle"):
        make_mvtec(tmp_path / name)
    (tmp_path / "cable/ground_truth/hole/0_mask.png").unlink()
    assert open_dataset(tmp_path, category="bottle").has_masks
    with pytest.raises(DataError, match="1 of 2 anomalous"):
        open_dataset(tmp_path, category="cable")


def test_folder(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/a.png", "test/good/b.png", "test/NG 批/c.png", "test/NG 批/notes.txt")
    data = open_dataset(tmp_path)
    assert data.layout == "folder"
    assert not data.has_masks
    assert brief(data.samples, tmp_path) == [
        ("test/NG 批/c.png", 1, "test", "NG 批", ""),
        ("test/good/b.png", 0, "test", "good", ""),
        ("train/good/a.png", 0, "train", "good", ""),
    ]


def test_flat_takes_direct_images_only(tmp_path: Path) -> None:
    touch(tmp_path, "2.png", "10.jpg", "1.webp", "sub/3.png", "notes.txt")
    data = open_dataset(tmp_path)
    assert data.layout == "flat"
    assert [s.path.name for s in data.train] == ["1.webp", "2.png", "10.jpg"]
    assert not data.test
    assert not data.has_masks


def test_btad(tmp_path: Path) -> None:
    touch(tmp_path, "01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp", "01/ground_truth/ko/2.png")
    touch(tmp_path, "02/train/ok/0.png", "02/test/ok/1.png", "02/test/ko/3.png", "02/ground_truth/ko/3.bmp")
    assert list_categories(tmp_path) == ("01", "02")
    data = open_dataset(tmp_path, category="01")
    assert data.layout == "mvtec"
    assert brief(data.samples, tmp_path / "01") == [
        ("test/ko/2.bmp", 1, "test", "ko", "ground_truth/ko/2.png"),
        ("test/ok/1.bmp", 0, "test", "good", ""),
        ("train/ok/0.bmp", 0, "train", "good", ""),
    ]
    single = open_dataset(tmp_path / "02")
    assert (single.layout, single.categories, single.has_masks) == ("mvtec", ("02",), True)


def make_visa(root: Path) -> None:
    normal = [f"candle/Data/Images/Normal/{index:04}.JPG" for index in range(12)]
    touch(root, *normal, "candle/Data/Images/Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png")
    rows = [f"{name},normal," for name in normal]
    rows.append('candle/Data/Images/Anomaly/000.JPG,"bent,melted",candle/Data/Masks/Anomaly/000.png')
    (root / "candle/image_anno.csv").write_text("\n".join(["image,label,mask", *rows]))


def test_visa_with_the_official_split(tmp_path: Path) -> None:
    make_visa(tmp_path)
    image = "candle/Data/Images"
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\n"
        f"candle,train,normal,{image}/Normal/0003.JPG,\n"
        f"candle,test,normal,{image}/Normal/0001.JPG,\n"
        f"candle,test,anomaly,{image}/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
    )
    data = open_dataset(tmp_path, category="candle")
    assert data.layout == "visa"
    assert data.has_masks
    assert brief(data.samples, tmp_path) == [
        (f"{image}/Anomaly/000.JPG", 1, "test", "defect", "candle/Data/Masks/Anomaly/000.png"),
        (f"{image}/Normal/0001.JPG", 0, "test", "good", ""),
        (f"{image}/Normal/0003.JPG", 0, "train", "good", ""),
    ]


@pytest.mark.parametrize("inside", ["", "candle"], ids=["root", "category"])
def test_visa_without_a_split_tests_every_fifth(tmp_path: Path, inside: str) -> None:
    make_visa(tmp_path)
    data = open_dataset(tmp_path / inside)
    assert data.layout == "visa"
    assert data.categories == ("candle",)
    assert [s.path.stem for s in data.test if not s.label] == ["0004", "0009"]
    assert len(data.train) == 10
    assert [s.defect_type for s in data.test if s.label] == ["bent,melted"]
    assert data.has_masks


def test_unknown_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist\. Give the folder"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "gone", layout="mvtec")
    with pytest.raises(DataError, match=r"holds no image, nor anything else\. Put images into it, or name"):
        open_dataset(tmp_path)
    touch(tmp_path, "notes.txt", *(f"sub{index}/x.txt" for index in range(9)))
    with pytest.raises(
        DataError, match=r"Found: notes\.txt, sub0, .*, …\. Expected one of: .*train/good \(folder\)"
    ):
        find_layout(tmp_path)
    with pytest.raises(
        DataError, match=r"There is no layout 'coco'\. Choose one of csv, visa, mvtec, folder, ok_ng"
    ):
        open_dataset(tmp_path, layout="coco")
    image = tmp_path / "sub0" / "part.png"
    image.touch()
    with pytest.raises(DataError, match=rf"^{re.escape(str(image))} is one image\. Name its folder\.$"):
        open_dataset(image)
    image.unlink()
    for layout in LAYOUTS.keys() - {"csv"}:
        with pytest.raises(DataError, match="holds no images in this layout"):
            open_dataset(tmp_path, layout=layout)


@pytest.mark.skipif("BLEMISH_DATA" not in os.environ, reason="BLEMISH_DATA is not set: no real images")
@pytest.mark.parametrize(
    ("name", "train", "test", "masks"),
    [("mvtec_ad/bottle", 209, 83, 63), ("magnetic_tile", 762, 582, 392)],
)
def test_real_data(name: str, train: int, test: int, masks: int) -> None:
    data = open_dataset(Path(os.environ["BLEMISH_DATA"]) / name)
    assert (data.layout, data.has_masks) == ("mvtec", True)
    assert (len(data.train), len(data.test)) == (train, test)
    assert sum(s.mask_path is not None for s in data.test) == masks
