"""What `blemish fit` makes of its options on images: preprocessing, number of shots, auxiliary images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blemish.messages import message

if TYPE_CHECKING:
    from blemish.data.preprocess import Preprocess
    from blemish.types import Sample
    from blemish.workflow.groups import GroupBy


def require_one_split(shots: int | None, hold_out: float | None, calibrate: str) -> None:
    """Refuse options that contradict each other in which images are held out."""
    if calibrate == "cross" and (shots is not None or hold_out is not None):
        raise click.UsageError(
            message("With --calibrate cross no image is held out. Leave out --hold-out and --shots.")
        )
    if shots is not None and hold_out is not None:
        raise click.UsageError(
            message("--shots and --hold-out both say how many images are held out. Give one of them.")
        )


def to_group_by(group_by: str, data: Path) -> "GroupBy":
    """The rule of --group-by: the labels of a column if DATA is a csv file that has it, or else the text itself."""
    from blemish.data.csv_table import read_column

    if group_by in ("none", "found", "folder") or data.suffix.lower() != ".csv" or not data.is_file():
        return group_by
    return read_column(data, group_by, (data.parent,)) or group_by


def auxiliary_samples(folders: Sequence[Path]) -> "list[Sample]":
    """Normal training images of data sets; each category of each data set is a category of its own.

    Raises:
        DataError: If there is no such data set.
    """
    from blemish.data.dataset import open_dataset

    return [
        replace(sample, category=f"{folder}/{category}")
        for folder in folders
        for category in _products(folder)
        for sample in open_dataset(folder, category=category).train
    ]


def _products(folder: Path) -> tuple[str, ...]:
    """The categories of an auxiliary data set; the error names the option if it is a folder of folders of images."""
    from blemish.data.dataset import list_categories
    from blemish.data.find import entries_of, subfolders_of
    from blemish.data.layouts import find_layout
    from blemish.errors import DataError

    try:
        find_layout(folder)
    except DataError:
        inner = [sub for sub in subfolders_of(folder) if entries_of(sub).images]
        if not inner:
            raise
        raise DataError(
            "{folder} has no known layout, but {inner} holds images. Repeat --auxiliary for each product, e.g. "
            "--auxiliary {inner}.",
            folder=folder,
            inner=inner[0],
        ) from None
    return list_categories(folder)


def chosen_preprocess(
    method: str,
    preset: str | None,
    images: "Sequence[Sample]",
    image_size: tuple[int, int] | Literal["auto"] | None,
    pixels: int | None,
    resize: Any,
) -> "Preprocess":
    """The preset's preprocessing with the user's changes, or else that which suits the images."""
    from blemish.data.input_size import PIXELS, auto_preprocess
    from blemish.data.preprocess import Preprocess
    from blemish.plugins import preset_preprocess

    if pixels is not None and image_size not in (None, "auto"):
        raise click.UsageError(
            message("--pixels is for --image-size auto, and a size is given. Leave one of them out.")
        )
    preset_own = preset_preprocess(method, preset)
    preprocess = preset_own or Preprocess()
    if isinstance(image_size, tuple):
        preprocess = preprocess.changed(size=image_size, crop=None)
    elif preset_own is None or image_size == "auto" or pixels is not None:
        suited = auto_preprocess(images, pixels=pixels or PIXELS)
        preprocess = preprocess.changed(size=suited.size, crop=None)
    return preprocess if resize is None else preprocess.changed(resize=resize)
