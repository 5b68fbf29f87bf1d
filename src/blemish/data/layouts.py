"""The layouts of data sets on disk: one function each, from a path to sorted samples."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from blemish.data.csv_table import read_table
from blemish.data.find import (
    entries_of,
    find_images,
    is_folder,
    natural_order,
    require_searchable,
    subfolders_of,
)
from blemish.data.labels import NORMAL_WORDS_LISTED, is_defect_word, is_normal_word, plain_word
from blemish.data.unknown_layout import unknown_layout
from blemish.errors import BlemishWarning, DataError
from blemish.files import resolved
from blemish.messages import message
from blemish.types import Sample, Split

TEST_EVERY = 5
"""Of normal images without a split, every fifth one in natural order is for testing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of arranging a data set on disk."""

    looks_like: str
    """The names that `detects` checks, to end the sentence "Expected one of: …"."""
    detects: Callable[[Path], bool]
    """Whether a path looks like this layout, from names alone."""
    read: Callable[[Path], list[Sample]]
    """All samples of all categories, sorted; DataError if the files do not follow the layout."""
    lacks_mask: Callable[[Path], str] = lambda _: ""
    """Why the image of a path has no mask: a clause."""
    without_masks: str = ""
    """What to do if some masks are missing, to end the sentence "Add the masks, or …"."""
    tables: tuple[str, ...] = ()
    """Patterns of the tables that list images, in the folder of the data set."""


def read_mvtec(path: Path) -> list[Sample]:
    """MVTec AD, and BTAD, whose folders are ok and ko: one category folder, or a folder of several.

    A category holds train/good, test/good, test/<defect type> and ground_truth/<defect type>, where the mask
    of 000.png is 000_mask.png or 000.png, with any image suffix.
    """
    folders = _categories(path, _is_mvtec_category)
    return _found([sample for folder in folders for sample in _read_splits(folder, _masks(folder))], path)


def read_folder(path: Path) -> list[Sample]:
    """A folder of train/good, test/good and test/<anything>, or a folder of several; masks, if any, are ignored."""
    folders = _categories(path, _is_split_category)
    return _found([sample for folder in folders for sample in _read_splits(folder, ())], path)


def read_ok_ng(path: Path) -> list[Sample]:
    """A folder of OK and NG, or other words for normal images and defects.

    Every fifth normal image (in natural order) and all anomalous ones are for testing; without anomalous images, all
    are for training.
    """
    kinds, category = subfolders_of(path), _category(path)
    normal = [file for kind in kinds if is_normal_word(kind.name) for file in entries_of(kind).images]
    defects = [kind for kind in kinds if is_defect_word(kind.name)]
    samples = [sample for kind in defects for sample in _anomalous(kind, (), category)]
    tested = _for_testing(normal) if samples else set()
    samples += [Sample(file, 0, "test" if file in tested else "train", category=category) for file in normal]
    _warn_of_unused([path, *kinds], samples)
    return _found(samples, path)


def read_flat(path: Path) -> list[Sample]:
    """A folder of normal images for training; subfolders are ignored."""
    category = _category(path)
    return _found([Sample(file, 0, "train", category=category) for file in entries_of(path).images], path)


def read_visa(path: Path) -> list[Sample]:
    """VisA: a folder with split_csv/1cls.csv, or category folders with image_anno.csv.

    image_anno.csv has no split: every fifth normal image (in natural order) and all anomalous ones are for testing.
    """
    split_csv = path / "split_csv" / "1cls.csv"
    if split_csv.is_file():
        names = {"path": "image", "label": "label", "mask": "mask", "split": "split", "category": "object"}
        return _found(list(read_table(split_csv, names, (path,))), path)
    samples = []
    for folder in _categories(path, _is_visa_category):
        names = {"path": "image", "label": "label", "mask": "mask"}
        # Official paths begin with the category's name; those of a single moved folder may not.
        listed = list(read_table(folder / "image_anno.csv", names, (folder.resolve().parent, folder)))
        tested = _for_testing([sample.path for sample in listed if sample.label == 0])
        for sample in listed:
            split: Split = "test" if sample.label or sample.path in tested else "train"
            samples.append(replace(sample, split=split, category=_category(folder)))
    return _found(samples, path)


def read_csv(path: Path) -> list[Sample]:
    """A csv file with the columns path and label, and optionally mask, split and category.

    Paths are absolute or relative to the csv file's folder. Labels are words for normal images (`data.labels`), 0, or
    the name of the defect. Without a split, normal images are for training and anomalous ones for testing.
    """
    names = {"path": "path", "label": "label", "mask": "mask", "split": "split", "category": "category"}
    return _found(list(read_table(path, names, (path.parent,), required=("path", "label"))), path)


def find_layout(path: Path) -> str:
    """Name of the first layout in `LAYOUTS` that matches a path.

    Raises:
        DataError: The path does not exist, may not be read or matches no layout.
    """
    if not path.exists():
        raise DataError("{path} does not exist. Give the folder of a data set, or its csv file.", path=path)
    for name, layout in LAYOUTS.items():
        if layout.detects(path):
            return name
    raise unknown_layout(path, [f"{message(layout.looks_like)} ({name})" for name, layout in LAYOUTS.items()])


def _read_splits(folder: Path, masks: Sequence[Path]) -> list[Sample]:
    """Samples of train/<normal>, test/<normal> and test/<defect type>, with those masks that exist."""
    category = _category(folder)
    samples, searched = [], []
    for split in get_args(Split):
        for place in _named(folder, split):
            require_searchable(place)
            kinds = subfolders_of(place)
            searched += [place, *kinds]
            for kind in kinds:
                if is_normal_word(kind.name):
                    samples += [Sample(file, 0, split, category=category) for file in entries_of(kind).images]
                elif split == "test":
                    samples += _anomalous(kind, masks, category)
    _warn_of_unused(searched, samples)
    return samples


def _anomalous(kind: Path, masks: Sequence[Path], category: str) -> list[Sample]:
    """Test samples of a folder of one defect type, with those masks that exist."""
    found = [mask for folder in masks for mask in entries_of(folder / kind.name).images]
    by_stem = {mask.stem: mask for mask in found}
    return [
        Sample(
            file,
            1,
            "test",
            kind.name,
            by_stem.get(f"{file.stem}_mask", by_stem.get(file.stem)),
            category,
        )
        for file in entries_of(kind).images
    ]


def _for_testing(normal: Sequence[Path]) -> set[Path]:
    """Every fifth normal image, in natural order."""
    return set(sorted(normal, key=natural_order)[TEST_EVERY - 1 :: TEST_EVERY])


def _warn_of_unused(searched: Sequence[Path], samples: Sequence[Sample]) -> None:
    """Warn of images in the searched folders, or below the innermost of them, that are no samples."""
    used = {sample.path for sample in samples}
    inner = {folder.parent for folder in searched}
    unused, deeper = [], []
    for folder in searched:
        images, folders = entries_of(folder)
        unused += [file for file in images if file not in used]
        deeper += [] if folder in inner else folders
    if deeper:  # a link can lead back to a folder of the layout
        places = {resolved(path) for path in used}
        unused += [
            file for file in find_images(deeper) if not is_folder(file) and resolved(file) not in places
        ]
    if unused:
        warnings.warn(
            message(
                "{count} images are not used, the first is {unused}: normal images are read from "
                "folders named {normal_words_listed}, without their subfolders, and anomalous ones for testing only. "
                "Move them if they are needed.",
                count=len(unused),
                unused=unused[0],
                normal_words_listed=NORMAL_WORDS_LISTED,
            ),
            BlemishWarning,
            stacklevel=2,
        )


def _category(folder: Path) -> str:
    return folder.resolve().name


def _categories(path: Path, is_category: Callable[[Path], bool]) -> list[Path]:
    """The path itself if it is a category, otherwise its subfolders that are categories."""
    return [path] if is_category(path) else [folder for folder in subfolders_of(path) if is_category(folder)]


def _named(folder: Path, name: str) -> list[Path]:
    """The subfolders of a name, in any case."""
    return [entry for entry in subfolders_of(folder) if plain_word(entry.name) == name]


def _masks(folder: Path) -> list[Path]:
    return _named(folder, "ground_truth")


def _is_split_category(path: Path) -> bool:
    places = [place for split in get_args(Split) for place in _named(path, split)]
    return any(is_normal_word(kind.name) for place in places for kind in subfolders_of(place))


def _is_mvtec_category(path: Path) -> bool:
    return bool(_masks(path)) and _is_split_category(path)


def _is_ok_ng(path: Path) -> bool:
    return any(is_normal_word(kind.name) for kind in subfolders_of(path))


def _is_visa_category(path: Path) -> bool:
    return (path / "image_anno.csv").is_file()


def _is_visa(path: Path) -> bool:
    return (path / "split_csv" / "1cls.csv").is_file() or bool(_categories(path, _is_visa_category))


def _mask_names(image: Path) -> str:
    folder = image.parents[2] / "ground_truth" / image.parent.name
    return message(
        "there is neither {name}_mask.png nor {stem}.png, with any image suffix",
        name=folder / image.stem,
        stem=image.stem,
    )


def _found(samples: list[Sample], path: Path) -> list[Sample]:
    if not samples:
        raise DataError("{path} holds no images in this layout. Check the path and the layout.", path=path)
    return sorted(samples, key=lambda sample: natural_order(sample.path))


def _no_mask_listed(_: Path) -> str:
    return message("its cell in the column mask is empty")


LAYOUTS: dict[str, Layout] = {
    "csv": Layout(
        "a .csv file with the columns path and label",
        lambda path: path.is_file() and path.suffix.lower() == ".csv",
        read_csv,
        _no_mask_listed,
        "empty the mask column",
    ),
    "visa": Layout(
        "split_csv/1cls.csv or image_anno.csv",
        _is_visa,
        read_visa,
        _no_mask_listed,
        "list the images without masks in your own csv file (--layout csv)",
        ("split_csv/*.csv", "image_anno.csv", "*/image_anno.csv"),
    ),
    "mvtec": Layout(
        "train/good beside ground_truth",
        lambda path: bool(_categories(path, _is_mvtec_category)),
        read_mvtec,
        _mask_names,
        "use --layout folder to evaluate without pixel metrics",
    ),
    "folder": Layout("train/good", lambda path: bool(_categories(path, _is_split_category)), read_folder),
    "ok_ng": Layout("OK and NG", _is_ok_ng, read_ok_ng),
    "flat": Layout("images directly in the folder", lambda path: bool(entries_of(path).images), read_flat),
}
