"""The layouts of data sets on disk: one function each, from a path to sorted samples."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemish.data.csv_table import read_table
from blemish.data.images import is_image_file
from blemish.errors import DataError
from blemish.types import Sample

_VISA_TEST_EVERY = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of arranging a data set on disk."""

    looks_like: str
    """The names that `detects` checks, to end the sentence "Expected one of: …"."""
    without_masks: str
    """What to do if some masks are missing, to end the sentence "Add the masks, or …"."""
    detects: Callable[[Path], bool]
    """Whether a path looks like this layout, from names alone."""
    read: Callable[[Path], list[Sample]]
    """All samples of all categories, sorted; DataError if the files do not follow the layout."""


def natural_order(path: Path) -> tuple[list[tuple[str, int]], str]:
    """Sort key of a path in which image2 comes before image10."""
    text = path.as_posix()
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", text)], text


def read_mvtec(path: Path) -> list[Sample]:
    """MVTec AD: one category folder, or a folder of several.

    A category holds train/good, test/good, test/<defect type> and ground_truth/<defect type>, where the mask
    of 000.png is 000_mask.png or 000.png, with any image suffix.
    """
    samples = []
    for folder in _categories(path, _is_mvtec_category):
        samples += _train_and_test(folder, "good", folder / "ground_truth")
    return _found(samples, path)


def read_folder(path: Path) -> list[Sample]:
    """A folder of train/good, test/good and test/<anything>; masks, if any, are ignored."""
    return _found(_train_and_test(path, "good", None), path)


def read_flat(path: Path) -> list[Sample]:
    """A folder of normal images for training; subfolders are ignored."""
    category = path.resolve().name
    return _found([Sample(file, 0, "train", category=category) for file in _images(path)], path)


def read_btad(path: Path) -> list[Sample]:
    """BTAD: train/ok, test/ok, test/ko and ground_truth/ko; one category folder, or a folder of several."""
    samples = []
    for folder in _categories(path, _is_btad_category):
        samples += _train_and_test(folder, "ok", folder / "ground_truth")
    return _found(samples, path)


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
        normal = sorted((s for s in listed if s.label == 0), key=lambda s: natural_order(s.path))
        tested = {sample.path for sample in normal[_VISA_TEST_EVERY - 1 :: _VISA_TEST_EVERY]}
        samples += [
            Sample(
                sample.path,
                sample.label,
                "test" if sample.label or sample.path in tested else "train",
                sample.defect_type,
                sample.mask_path,
                folder.resolve().name,
            )
            for sample in listed
        ]
    return _found(samples, path)


def read_csv(path: Path) -> list[Sample]:
    """A csv file with the columns path and label, and optionally mask, split and category.

    Paths are absolute or relative to the csv file's folder. The labels good, ok, normal and 0 are normal, any other
    is the name of the defect. Without a split, normal images are for training and anomalous ones for testing.
    """
    names = {"path": "path", "label": "label", "mask": "mask", "split": "split", "category": "category"}
    return _found(list(read_table(path, names, (path.parent,), required=("path", "label"))), path)


def find_layout(path: Path) -> str:
    """Name of the first layout in `LAYOUTS` that matches a path.

    Raises:
        DataError: The path does not exist or matches no layout; the text lists what was expected and found.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the folder of a data set, or its csv file.")
    for name, layout in LAYOUTS.items():
        if layout.detects(path):
            return name
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else [path.name]
    found = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
    expected = "; ".join(f"{layout.looks_like} ({name})" for name, layout in LAYOUTS.items())
    raise DataError(
        f"{path} has no known layout. Found: {found}. Expected one of: {expected}. "
        "Arrange the images like one of these, or name the layout with --layout."
    )


def _train_and_test(folder: Path, good: str, masks: Path | None) -> list[Sample]:
    """Samples of train/<good>, test/<good> and test/<defect type>, with those masks that exist."""
    category = folder.resolve().name
    samples = [Sample(file, 0, "train", category=category) for file in _images(folder / "train" / good)]
    for kind in _subfolders(folder / "test"):
        if kind.name == good:
            samples += [Sample(file, 0, "test", category=category) for file in _images(kind)]
            continue
        by_stem = {mask.stem: mask for mask in _images(masks / kind.name)} if masks else {}
        for file in _images(kind):
            mask = by_stem.get(f"{file.stem}_mask", by_stem.get(file.stem))
            samples.append(Sample(file, 1, "test", kind.name, mask, category))
    return samples


def _categories(path: Path, is_category: Callable[[Path], bool]) -> list[Path]:
    """The path itself if it is a category, otherwise its subfolders that are categories."""
    return [path] if is_category(path) else [folder for folder in _subfolders(path) if is_category(folder)]


def _is_mvtec_category(path: Path) -> bool:
    return (path / "train" / "good").is_dir() and (path / "ground_truth").is_dir()


def _is_btad_category(path: Path) -> bool:
    return (path / "train" / "ok").is_dir()


def _is_visa_category(path: Path) -> bool:
    return (path / "image_anno.csv").is_file()


def _is_visa(path: Path) -> bool:
    return (path / "split_csv" / "1cls.csv").is_file() or bool(_categories(path, _is_visa_category))


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    folders = (entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return sorted(folders, key=natural_order)


def _images(path: Path) -> list[Path]:
    """The images of a folder without its subfolders; empty if there is no such folder."""
    return [entry for entry in path.iterdir() if is_image_file(entry)] if path.is_dir() else []


def _found(samples: list[Sample], path: Path) -> list[Sample]:
    if not samples:
        raise DataError(f"{path} holds no images in this layout. Check the path and the layout.")
    return sorted(samples, key=lambda sample: natural_order(sample.path))


LAYOUTS: dict[str, Layout] = {
    "csv": Layout(
        "a .csv file with the columns path and label",
        "empty the mask column",
        lambda path: path.is_file() and path.suffix.lower() == ".csv",
        read_csv,
    ),
    "visa": Layout(
        "split_csv/1cls.csv or image_anno.csv",
        "list the images without masks in your own csv file (--layout csv)",
        _is_visa,
        read_visa,
    ),
    "mvtec": Layout(
        "train/good beside ground_truth",
        "use --layout folder to evaluate without pixel metrics",
        lambda path: bool(_categories(path, _is_mvtec_category)),
        read_mvtec,
    ),
    "btad": Layout(
        "train/ok",
        "move ground_truth away to evaluate without pixel metrics",
        lambda path: bool(_categories(path, _is_btad_category)),
        read_btad,
    ),
    "folder": Layout("train/good", "", lambda path: (path / "train" / "good").is_dir(), read_folder),
    "flat": Layout("images directly in the folder", "", lambda path: bool(_images(path)), read_flat),
}
