"""Opens data sets: the samples of a folder or a csv file, by category."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.data.labels import NORMAL_WORDS_LISTED
from blemish.data.layouts import LAYOUTS, find_layout
from blemish.errors import BlemishWarning, DataError
from blemish.messages import message
from blemish.names import printable
from blemish.types import Sample


@dataclass(frozen=True, repr=False)
class Dataset:
    """The samples of one data set, sorted by path."""

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    files: frozenset[Path] = frozenset()
    """All files of all categories: images, masks and tables."""

    @property
    def train(self) -> tuple[Sample, ...]:
        """The normal images to learn from."""
        return tuple(sample for sample in self.samples if sample.split == "train")

    @property
    def test(self) -> tuple[Sample, ...]:
        """The images for evaluation, normal and anomalous."""
        return tuple(sample for sample in self.samples if sample.split == "test")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the products, sorted."""
        return tuple(sorted({sample.category for sample in self.samples}))

    @property
    def has_split(self) -> bool:
        """Whether the data set says which normal images are to learn from; otherwise every fifth one is for testing."""
        return self.layout != "ok_ng"

    @property
    def has_masks(self) -> bool:
        """Whether there are anomalous test images and each has a mask, so that pixel metrics can be computed."""
        anomalous = [sample for sample in self.test if sample.label]
        return bool(anomalous) and all(sample.mask_path for sample in anomalous)

    def __repr__(self) -> str:
        """At most five lines, however many images, categories and defect types there are."""
        lines = [f"Dataset({str(self.root)!r}, layout {self.layout}"]
        lines += [f"categories: {_shortened(self.categories)}"]
        for split, samples in (("train", self.train), ("test", self.test)):
            counts = Counter(sample.defect_type for sample in samples)
            lines += [f"{split}: {_shortened([f'{count} {name}' for name, count in counts.items()])}"]
        masks = sum(sample.mask_path is not None for sample in self.test)
        lines += [f"masks: {masks} of {sum(sample.label for sample in self.test)} anomalous test images)"]
        return "\n  ".join(lines)

    def select(self, category: str) -> "Dataset":
        """The data set of one category.

        Raises:
            DataError: There is no such category; the text lists the categories.
        """
        chosen = tuple(sample for sample in self.samples if sample.category == category)
        if not chosen:
            raise DataError(
                "{root} has no category {category!r}. Choose one of {categories}.",
                root=self.root,
                category=category,
                categories=", ".join(self.categories),
            )
        return replace(self, samples=chosen)


def open_dataset(path: Path | str, *, layout: str | None = None, category: str | None = None) -> Dataset:
    """The samples of one category, found by folder and file names; no image is opened.

    Args:
        path: Folder of a data set, or a csv file.
        layout: A name in `layouts.LAYOUTS`; recognised from the names of folders and files if not given.
        category: Name of the product, if the data set has several.

    Raises:
        DataError: The path or the layout does not exist, no layout is recognised, there are several categories and
            none is chosen, or some but not all masks are missing.

    Warns:
        BlemishWarning: Images are not used, or no test image is normal.
    """
    dataset = _open_all(Path(path), layout)
    if category is not None:
        dataset = dataset.select(category)
    elif len(dataset.categories) > 1:
        raise DataError(
            "{path} has {count} categories: {dataset}. Choose one with --category NAME.",
            path=path,
            count=len(dataset.categories),
            dataset=", ".join(dataset.categories),
        )
    _require_all_masks(dataset)
    _warn_without_normal_test(dataset)
    return dataset


def list_categories(path: Path | str, *, layout: str | None = None) -> tuple[str, ...]:
    """Names of all categories, sorted, for `open_dataset`.

    Raises:
        DataError: The path or the layout does not exist, or no layout is recognised.
    """
    return _open_all(Path(path), layout).categories


def _open_all(path: Path, layout: str | None) -> Dataset:
    name = find_layout(path) if layout is None else layout
    if name not in LAYOUTS:
        raise DataError(
            "There is no layout {name!r}. Choose one of {layouts}.", name=name, layouts=", ".join(LAYOUTS)
        )
    if not path.exists():
        raise DataError("{path} does not exist. Give the folder of a data set, or its csv file.", path=path)
    samples = tuple(LAYOUTS[name].read(path))
    files = {file for sample in samples for file in (sample.path, sample.mask_path) if file is not None}
    return Dataset(path, name, samples, frozenset(files.union(_tables(path))))


def _tables(path: Path) -> list[Path]:
    """The csv files that list images and masks, also those of a layout other than the one that is read."""
    if path.is_file():
        return [path]
    return [table for layout in LAYOUTS.values() for name in layout.tables for table in path.glob(name)]


def _require_all_masks(dataset: Dataset) -> None:
    """Refuse a data set with some masks but not all, whose pixel metrics would be wrong.

    The layout mvtec always has masks; if none is found, their names do not match.
    """
    anomalous = [sample for sample in dataset.test if sample.label]
    without = [sample.path for sample in anomalous if sample.mask_path is None]
    layout = LAYOUTS[dataset.layout]
    if without and (len(without) < len(anomalous) or dataset.layout == "mvtec"):
        raise DataError(
            "{count} of {total} anomalous test images have no mask, "
            "the first is {without}: {lacks_mask}. "
            "Add the masks, or {without_masks}.",
            count=len(without),
            total=len(anomalous),
            without=without[0],
            lacks_mask=layout.lacks_mask(without[0]),
            without_masks=message(layout.without_masks),
        )


def _warn_without_normal_test(dataset: Dataset) -> None:
    """Warn of a test split without a normal image, such as one whose normal images have a name that means a defect."""
    test = dataset.test
    if test and all(sample.label for sample in test):
        types = printable(_shortened(sorted({sample.defect_type for sample in test})))
        warnings.warn(
            message(
                "All {count} test images of {dataset} are taken as anomalous ({types}), so neither "
                "false alarms nor AUROC can be measured. Name the folder or the label of normal test images "
                "{normal_words_listed}.",
                count=len(test),
                dataset=dataset.root,
                types=types,
                normal_words_listed=NORMAL_WORDS_LISTED,
            ),
            BlemishWarning,
            stacklevel=3,
        )


def _shortened(words: Sequence[str], max_length: int = 100) -> str:
    """The words with commas between, cut after `max_length` characters."""
    text = ", ".join(words) or "none"
    return text if len(text) <= max_length else f"{text[:max_length]} … ({len(words)} in all)"
