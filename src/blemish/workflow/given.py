"""What users give to the operations on models: lists of images, a preprocessing, a seed, a model."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NoReturn

import numpy as np

from blemish.data.checks import BadImage
from blemish.data.find import is_folder
from blemish.data.images import image_size, read_mask
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, MethodError, ModelError
from blemish.files import resolved
from blemish.inspection.suspects import Suspect
from blemish.messages import message
from blemish.model import Model
from blemish.names import printable
from blemish.types import Mask, Sample

Given = Sequence[Sample] | Sequence[Path] | Sequence[str]
"""Images."""
Excluded = Sequence[Path] | Sequence[str] | Sequence[Sample] | Sequence[Suspect] | Sequence[BadImage]
"""Images to leave out."""


def normal_samples(images: Given) -> list[Sample]:
    """The given images as samples.

    Raises:
        DataError: If it is no list of samples or paths, a sample is anomalous, or there is no image.
    """
    samples = as_samples(images)
    anomalous = [sample for sample in samples if sample.label]
    if anomalous:
        raise DataError(
            "{count} of the images to learn from are labelled anomalous, the first is {path}. "
            "Give normal images only, e.g. Dataset.train.",
            count=len(anomalous),
            path=anomalous[0].path,
        )
    if not samples:
        raise DataError("There is no image to learn from. Give at least 2 normal images.")
    return samples


def as_samples(images: Given) -> list[Sample]:
    """The given images as samples, those that are paths without a category.

    Raises:
        DataError: If it is no list of samples or paths, or a path is that of a folder.
    """
    if isinstance(images, str | Path):  # a str is a sequence of str, too
        raise DataError(
            "{images} is a single path. Give images, e.g. blemish.open_dataset(folder).train.", images=images
        )
    try:
        return [image if isinstance(image, Sample) else _unlabelled(Path(image)) for image in images]
    except TypeError as error:
        raise DataError(
            "Images are samples or paths, got {name}: {error}. Give a list, e.g. Dataset.train.",
            name=type(images).__name__,
            error=error,
        ) from None


def _unlabelled(path: Path) -> Sample:
    """The sample of a path."""
    if is_folder(path):
        raise DataError(
            "{path} is a folder, not an image. Give its images, e.g. blemish.open_dataset(folder).train.",
            path=path,
        )
    return Sample(path, 0, "train")


def ignored_pixels(ignore: Path | str | Mask, samples: Sequence[Sample]) -> Mask:
    """The mask (H, W) of what is ignored.

    Raises:
        DataError: If its file cannot be read, or an image has another size.
    """
    mask = read_mask(ignore) if isinstance(ignore, str | Path) else np.asarray(ignore, np.bool_)
    for sample in samples:
        try:
            size = image_size(sample.path)
        except DataError:
            continue  # an unreadable image is reported, or skipped, later
        if size != mask.shape:
            raise DataError(
                "The mask of what is ignored has the shape {shape}, but {path} has {size}. All images must have the "
                "mask's size.",
                shape=mask.shape,
                path=sample.path,
                size=size,
            )
    return mask


def without_excluded(samples: Sequence[Sample], exclude: Excluded | None) -> Sequence[Sample]:
    """The samples but those of the excluded files, whose paths may be written as `names.printable` writes them.

    Raises:
        DataError: If an excluded file is not among them, a name stands for two of them, or none is left.
    """
    files = [resolved(sample.path) for sample in samples]
    written: dict[str, set[Path]] = {}
    for file in files:
        for name in (printable(file), str(file)):
            written.setdefault(name, set()).add(file)
    left_out: set[Path] = set()
    for path, is_exact in _paths(() if exclude is None else exclude):
        file = resolved(path)
        meant = {file} & written.get(str(file), set()) if is_exact else written.get(str(file), set())
        if len(meant) != 1:
            _refuse(path, meant)
        left_out |= meant
    left = [sample for sample, file in zip(samples, files, strict=True) if file not in left_out]
    if not left:
        raise DataError(
            "All {count} images to learn from are excluded. Remove the normal ones from the list.",
            count=len(samples),
        )
    return left


def require_seed(seed: int) -> None:
    """Check that torch and numpy accept a seed.

    Raises:
        ValueError: If they do not.
    """
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**64):
        raise ValueError(
            message("The seed must be a whole number from 0 to below 2^64, got {seed!r}.", seed=seed)
        )


def require_preprocess(preprocess: Preprocess | None) -> None:
    """Check that a preprocessing is one, if it is given.

    Raises:
        MethodError: If it is something else.
    """
    if not isinstance(preprocess, Preprocess | None):
        raise MethodError(
            "preprocess must be a blemish.Preprocess, such as Preprocess(size=(256, 256)), got {value!r:.80}.",
            value=preprocess,
        )


def require_model(model: Model) -> None:
    """Check that a model is one.

    Raises:
        ModelError: If it is something else, such as the path of its folder.
    """
    if not isinstance(model, Model):
        raise ModelError(
            "model must be a blemish.Model, such as blemish.load(folder), got {model!r:.80}.", model=model
        )


def _paths(exclude: Excluded) -> Iterator[tuple[Path, bool]]:
    """The paths of what is to be excluded, and whether each is that of a file, not of a list in which it is written."""
    if isinstance(exclude, str | Path):  # a str is a sequence of str, too
        raise DataError("{path} is a single path. Give a list of the images to exclude.", path=exclude)
    wrong: object = exclude
    if isinstance(exclude, Iterable):
        for one in exclude:
            if isinstance(one, str | PurePath):
                yield Path(one), False
            elif isinstance(one, Sample | Suspect | BadImage):
                yield one.path, True
            else:
                wrong = one
                break
        else:
            return
    raise DataError(
        "Images to exclude are paths, samples or what blemish.suspects found, got {kind}. Give a list, e.g. "
        "[image.path for image in found.suspected].",
        kind=type(wrong).__name__,
    )


def _refuse(path: Path, meant: set[Path]) -> NoReturn:
    """Raise the error for a path to exclude that means none of the images, or several."""
    if not meant:
        raise DataError(
            "{path} is to be excluded, but is not among the images to learn from. Correct the path or remove it "
            "from the list.",
            path=path,
        )
    first, second, *_ = sorted(meant)
    raise DataError(
        "{path} is to be excluded, but two images are written like that: {first} and {second}. Rename one of them.",
        path=path,
        first=first,
        second=second,
    )
