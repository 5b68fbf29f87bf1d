"""The names that factories give to folders and labels: normal images are never counted as defects in silence."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from blemish.data.dataset import open_dataset
from blemish.data.find import natural_order
from blemish.data.labels import DEFECT_WORDS, NORMAL_WORDS, is_normal_word, parse_label
from blemish.errors import BlemishWarning, DataError
from empty_files import touch

NORMAL_NAMES = ["good", "Good", "good ", "OK", " ok", "ＯＫ", "Normal", "良品", "合格", "正常"]


@pytest.mark.parametrize("name", NORMAL_NAMES)
@pytest.mark.parametrize("masks", [False, True])
def test_normal_folders_in_train_and_test(tmp_path: Path, name: str, masks: bool) -> None:
    touch(tmp_path, f"train/{name}/1.png", f"test/{name}/2.png", "test/NG/3.png")
    if masks:
        touch(tmp_path, "ground_truth/NG/3.png")
    data = open_dataset(tmp_path)
    assert data.layout == ("mvtec" if masks else "folder")
    assert [sample.path.name for sample in data.train] == ["1.png"]
    assert {s.path.name: (s.label, s.defect_type) for s in data.test} == {
        "2.png": (0, "good"),
        "3.png": (1, "NG"),
    }
    assert data.has_masks == masks


def test_several_normal_folders_count_together(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Train/good/1.png",
        "Train/OK/2.png",
        "TEST/Good/3.png",
        "TEST/良品/4.png",
        "TEST/划痕/5.png",
    )
    data = open_dataset(tmp_path)
    assert [sample.path.name for sample in data.train] == ["2.png", "1.png"]
    assert Counter(sample.defect_type for sample in data.test) == {"good": 2, "划痕": 1}


def test_test_images_alone_are_a_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "test/OK/1.png", "test/NG/2.png")
    data = open_dataset(tmp_path)
    assert (data.layout, len(data.train), [sample.label for sample in data.test]) == ("folder", 0, [1, 0])


@pytest.mark.parametrize(
    ("normal", "defects"),
    [("OK", "NG"), ("ok", "ko"), ("good", "Bad"), ("良品", "不良品"), ("合格", "不合格"), ("正常", "异常")],
)
def test_every_fifth_normal_image_is_for_testing(tmp_path: Path, normal: str, defects: str) -> None:
    touch(
        tmp_path, *(f"{normal}/{index}.png" for index in range(1, 13)), *(f"{defects}/{i}.png" for i in "abc")
    )
    data = open_dataset(tmp_path)
    assert data.layout == "ok_ng"
    assert [sample.path.stem for sample in data.test if not sample.label] == ["5", "10"]
    assert [sample.path.stem for sample in data.train] == ["1", "2", "3", "4", "6", "7", "8", "9", "11", "12"]
    assert {(s.path.stem, s.defect_type) for s in data.test if s.label} == {(stem, defects) for stem in "abc"}
    assert data.categories == (tmp_path.name,)


def test_normal_images_of_several_folders_are_divided_together(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"OK/{i}.png" for i in range(4)),
        *(f"良品/{i}.png" for i in range(6)),
        "NG/1.png",
        "不良/2.png",
    )
    data = open_dataset(tmp_path)
    normal = sorted((s.path for s in data.samples if not s.label), key=natural_order)
    assert [sample.path for sample in data.test if not sample.label] == [normal[4], normal[9]]
    assert {sample.defect_type for sample in data.test if sample.label} == {"NG", "不良"}


def test_normal_folder_alone_is_for_training(tmp_path: Path) -> None:
    touch(tmp_path, *(f"OK/{index}.png" for index in range(10)))
    data = open_dataset(tmp_path)
    assert (data.layout, len(data.train), len(data.test)) == ("ok_ng", 10, 0)


@pytest.mark.parametrize(
    ("files", "count", "first"),
    [
        (["train/good/1.png", "train/NG/2.png", "train/NG/3.png"], 2, "train/NG/2.png"),
        (["train/good/1.png", "train/2.png"], 1, "train/2.png"),
        (["train/good/1.png", "test/2.png"], 1, "test/2.png"),
        (["train/good/1.png", "train/good/monday/2.png"], 1, "train/good/monday/2.png"),
        (["OK/1.png", "2.png"], 1, "2.png"),
        (["OK/1.png", "scratch/2.png"], 1, "scratch/2.png"),
    ],
)
def test_images_in_no_place_of_the_layout_are_named(
    tmp_path: Path, files: list[str], count: int, first: str
) -> None:
    touch(tmp_path, *files)
    with pytest.warns(
        BlemishWarning,
        match=rf"^{count} images are not used, the first is {tmp_path}/{first}: normal images are read from folders "
        r"named good, ok, normal, 良品, 合格 or 正常, without their subfolders, and anomalous ones for testing only\. "
        r"Move them if they are needed\.$",
    ):
        assert [sample.path.name for sample in open_dataset(tmp_path).train] == ["1.png"]


def test_test_split_without_a_normal_image_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/ok/1.png", "test/pass/2.png", "test/NG/3.png", "test/NG/4.png")
    with pytest.warns(
        BlemishWarning,
        match=rf"^All 3 test images of {tmp_path} are taken as anomalous \(NG, pass\), so neither false alarms nor "
        r"AUROC can be measured\. Name the folder or the label of normal test images good, ok, normal, 良品, 合格 or "
        r"正常\.$",
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("text", [*NORMAL_NAMES, "0", "0.0", "False", "FALSE", "-0"])
def test_labels_of_normal_images(text: str) -> None:
    assert parse_label(text) == (0, "good")


@pytest.mark.parametrize("text", ["1", "1.0", "True", "NG", "Bad", "不良品", "异常"])
def test_labels_of_defects_without_a_name(text: str) -> None:
    assert parse_label(text) == (1, "defect")


@pytest.mark.parametrize("text", ["2", "-1", "0.5", "nan", "inf", "yes", "N", "None", "n/a"])
def test_label_that_says_nothing_is_named(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(f"path,label\na.png,ok\na.png,{text}\n")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "t.csv")
    assert str(caught.value) == (
        f"{tmp_path / 't.csv'}, line 3: the label {text!r} does not say whether the image is normal. Write good or 0 "
        "for a normal image, 1 or the name of the defect for an anomalous one."
    )


def test_no_word_is_both(tmp_path: Path) -> None:
    assert not set(NORMAL_WORDS) & set(DEFECT_WORDS)
    assert not any(is_normal_word(word) for word in (*DEFECT_WORDS, "goods", "not ok", "不正常"))


@pytest.mark.skipif(sys.platform == "win32", reason="links are those of POSIX")
def test_what_cannot_be_reached_is_a_sample_that_names_itself(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/1.png", "elsewhere/2.png")
    (tmp_path / "train" / "good" / "gone.png").symlink_to(tmp_path / "absent.png")
    (tmp_path / "train" / "OK").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "good" / "again").symlink_to(tmp_path / "train")
    names = [sample.path.relative_to(tmp_path).as_posix() for sample in open_dataset(tmp_path).train]
    assert names == ["train/OK/2.png", "train/good/1.png", "train/good/gone.png"]


@pytest.mark.parametrize("closed", ["train", "train/good"])
def test_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """Permissions do not hold for root, so the system call refuses here."""
    touch(tmp_path, "train/good/1.png")
    original = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != tmp_path / closed and original(path, mode)
    )
    if closed == "train":
        with pytest.raises(DataError, match=r"train cannot be searched for images\. Check that you may read"):
            open_dataset(tmp_path)
    else:
        assert [sample.path for sample in open_dataset(tmp_path).train] == [tmp_path / closed]
