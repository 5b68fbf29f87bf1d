"""Tables of samples: columns, labels, paths, and an error that names the line."""

import csv
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blemish.data import csv_table
from blemish.data.csv_table import read_paths
from blemish.data.dataset import open_dataset
from blemish.data.layouts import read_csv
from blemish.errors import BlemishWarning, DataError
from empty_files import touch


def test_csv(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "好 b.png", "c.png", "d.png", "m/d.png", "elsewhere/e.png")
    table = tmp_path / "lists" / "parts.csv"
    table.parent.mkdir()
    outside = (tmp_path / "elsewhere" / "e.png").as_posix()
    table.write_text(
        "\ufeffPath, label ,mask,split,category,remark\r\n"
        "../a.png,OK,,train,nut,\r\n"
        '"../好 b.png",normal,,,nut,"a, b"\r\n'
        "\r\n"
        "../c.png,0,../c.png,test,nut,\r\n"
        "../d.png,scratch,../m/d.png,test,nut\r\n"
        f"{outside},1,../m/d.png,,nut\r\n",
        encoding="utf-8",
        newline="",
    )
    data = open_dataset(table)
    assert (data.layout, data.categories, data.has_masks) == ("csv", ("nut",), True)
    found = {s.path.name: (s.label, s.split, s.defect_type, s.mask_path is not None) for s in data.samples}
    assert found == {
        "a.png": (0, "train", "good", False),
        "好 b.png": (0, "train", "good", False),
        "c.png": (0, "test", "good", False),
        "d.png": (1, "test", "scratch", True),
        "e.png": (1, "test", "defect", True),
    }


def test_csv_without_optional_columns(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text("label,path\ngood,a.png\nbad,b.png\n")
    with pytest.warns(BlemishWarning, match="All 1 test images"):
        data = open_dataset(tmp_path / "t.csv")
    assert [(s.split, s.defect_type, s.category) for s in data.samples] == [
        ("train", "good", "t"),
        ("test", "defect", "t"),
    ]
    assert not data.has_masks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,kind\na.png,ok\n",
            r"t\.csv, line 1: no column 'label' among 'path', 'kind'\. Name the columns",
        ),
        ("", "line 1: no column 'path' and 'label' among nothing"),
        ("path;label\na.png;ok\n", "no column 'path' and 'label' among 'path;label'.*commas between"),
        (
            "path,label\na.png,ok\ngone.png,ok\n",
            r"line 3: the file .*gone\.png does not exist\. Correct the path",
        ),
        ("path,label,mask\na.png,hole,gone.png\n", r"line 2: the file .*gone\.png does not exist"),
        ("path,label\na.png,\n", "line 2: the column 'label' is empty"),
        ("path,label\n,ok\n", "line 2: the column 'path' is empty"),
        ("path,label\na.png,ok,\n", "line 2: 3 cells under 2 columns. Put quotes"),
        ("path,label,split\na.png,ok,valid\n", "line 2: the split is 'valid'. Write train or test"),
        ("path,label,split\n\na.png,hole,train\n", "line 3: an anomalous image is marked for training"),
        ('path,label\n"a.png,ok\n', r"line 2: not valid csv \(unexpected end of data\)\. Check its quotes"),
        ("path,label\n", "holds no images in this layout"),
        ("path,label\na\0.png,ok\n", "does not exist"),
        ("path,label,mask\na.png,hole,a.png\na.png,dent,\n", "1 of 2 .* no mask.*or empty the mask column"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "t.csv")


def test_each_row_asks_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table may have 100 000 rows, on a network drive."""
    asked: Counter[str] = Counter()
    for name in ("stat", "lstat"):
        original = getattr(os, name)

        def counting(*arguments: Any, name: str = name, original: Any = original, **more: Any) -> Any:
            asked[name] += 1
            return original(*arguments, **more)

        monkeypatch.setattr(os, name, counting)
    touch(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("path,label\n" + 200 * "a.png,ok\n")
    assert len(open_dataset(tmp_path / "t.csv").train) == 200
    assert asked["stat"] < 220
    assert asked["lstat"] < 40


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_csv_that_is_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"t\.csv is a pipe or a device\. Save the table as a file"):
        open_dataset(tmp_path / "t.csv", layout="csv")


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\n好.png,ok\n".encode("gbk"))
    with pytest.raises(DataError, match=r"t\.csv is not UTF-8 text\. Save it as “CSV UTF-8”"):
        open_dataset(tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        open_dataset(tmp_path, layout="csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "path,label\na.png,good\na.png,dent\n",
            "line 3: .*a.png is normal in one row and anomalous in another",
        ),
        ("path,label,label\na.png,good,dent\n", "line 1: the column 'label' stands there twice"),
    ],
)
def test_csv_that_contradicts_itself_is_refused(tmp_path: Path, text: str, said: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_csv(tmp_path / "t.csv")


cell = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.booleans(), cell, cell), min_size=1, max_size=6))
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[bool, str, str]]) -> None:
    touch(tmp_path, "a.png")
    touch(tmp_path, "b.png")
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["remark", "label", "path", "category"])
    for normal, remark, category in rows:
        label = "good" if normal else f"x {remark}"
        writer.writerow([remark, label, "a.png" if normal else "b.png", category])
    (tmp_path / "t.csv").write_text(buffer.getvalue(), encoding="utf-8", newline="")
    samples = read_csv(tmp_path / "t.csv")
    expected = Counter(
        ((0, "train", "good") if normal else (1, "test", f"x {remark}".strip()), category.strip() or "t")
        for normal, remark, category in rows
    )
    assert Counter(((s.label, s.split, s.defect_type), s.category) for s in samples) == expected


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from('path,label\n"\r;ok\0 \x85.'), max_size=60))
def test_any_text_is_samples_or_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text("path,label\n" + text, encoding="utf-8", newline="")
    with pytest.raises(DataError, match=r"t\.csv"):  # no file of any name is there
        read_csv(tmp_path / "t.csv")


def test_paths_of_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "lists/a.png", "data/a.png", "data/sub/b.png")
    table = tmp_path / "lists" / "list.csv"
    absolute = tmp_path / "data" / "a.png"
    table.write_text(
        f"\ufeffreason,Path,z\nsuspected,a.png,1\n\nx,sub/b.png\nx,{absolute}\nx,gone.png\n", "utf-8"
    )
    assert read_paths(table, (table.parent, tmp_path / "data")) == [
        tmp_path / "lists" / "a.png",  # the list's folder comes first
        tmp_path / "data" / "sub" / "b.png",
        absolute,
        tmp_path / "lists" / "gone.png",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column 'path' among nothing"),
        (b"name,reason\na.png,x\n", "line 1: no column 'path' among 'name', 'reason'"),
        (b"path,path\na.png,b.png\n", "the column 'path' stands there twice"),
        (b"z,path\n1\n", "line 2: the column 'path' holds no path"),
        (b"path,z\n,1\n", "line 2: the column 'path' holds no path"),
        (b"path\na\0b.png\n", "line 2: the column 'path' holds no path"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
        (b"path\n" + b"a" * 200_000, r"line 2: not valid csv \(field larger than field limit"),
    ],
)
def test_a_list_that_is_none_is_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_paths(table, (tmp_path,))


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "LARGEST", 2**20)
    table = tmp_path / "list.csv"
    with table.open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(DataError, match=r"list\.csv is larger than 1 MiB, which no list of images is\."):
        read_paths(table, (tmp_path,))
    with pytest.raises(DataError, match=r"cannot be read"):
        read_paths(tmp_path / "gone.csv", (tmp_path,))
