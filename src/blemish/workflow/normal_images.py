"""Splits normal images into those for training and those for calibration."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from blemish.data.checks import check_images
from blemish.data.content import HASH_DIGITS, content_hashes, fingerprint, without_copies
from blemish.data.splits import draw_shots, hold_out
from blemish.errors import DataError
from blemish.files import resolved
from blemish.manifest import TrainingData
from blemish.messages import lines
from blemish.names import printable
from blemish.types import Progress, Sample

WATCHED = 0.1
"""Share of the images learned from that a method with `uses_held_out` does not train on."""


@dataclass(frozen=True, slots=True)
class NormalImages:
    """The readable normal images of one fit."""

    samples: Sequence[Sample]
    """All images, each content once, in the order given."""
    hashes: Mapping[Path, str]
    """Hash of each of their files."""
    learned: Sequence[Sample]
    """Images learned from, in the order of training."""
    held_out: Sequence[Sample]
    """Images that the thresholds rest on."""
    skipped: int
    """Number of images left out because they cannot be read."""

    def parted(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        """The images learned from, without the last tenth of them, and that tenth, by which training is watched.

        Of a single image nothing is parted. The thresholds rest on neither, so that the watched images may decide, for
        example, when training ends.
        """
        count = min(max(1, round(WATCHED * len(self.learned))), len(self.learned) - 1)
        return self.learned[: len(self.learned) - count], self.learned[len(self.learned) - count :]

    def record(self, excluded: int = 0) -> TrainingData:
        """The images' entry in the manifest; `excluded` is the number that the user left out."""
        return TrainingData(
            category=printable(self.samples[0].category),
            learned_from=len(self.learned),
            held_out=len(self.held_out),
            skipped=self.skipped,
            excluded=excluded,
            images=tuple(_names(self.learned)),
            fingerprint=fingerprint(self.samples, self.hashes),
            hashes=tuple(self.hashes[sample.path][:HASH_DIGITS] for sample in self.samples),
        )


def split_images(
    samples: Sequence[Sample],
    hold_out_share: float,
    shots: int | None,
    seed: int,
    *,
    skip_unreadable: bool,
    progress: Progress,
) -> NormalImages:
    """Hold out some images, or all but a few shots, and shuffle the others: the first ones are a random sample of all.

    Copies of an image are left out, with a warning.

    Raises:
        DataError: If an image cannot be read, or there are too few.
        ValueError: If the share is not between 0 and 1, or the number of shots is below 1.
    """
    bad = check_images([sample.path for sample in samples], progress) if skip_unreadable else []
    unreadable = {image.path for image in bad}
    readable = [sample for sample in samples if sample.path not in unreadable]
    hashes = content_hashes([sample.path for sample in readable], progress)
    distinct = without_copies(readable, hashes)
    kept, held_out = (
        hold_out(distinct, hold_out_share, seed) if shots is None else draw_shots(distinct, shots, seed)
    )
    learned = [kept[index] for index in np.random.default_rng(seed).permutation(len(kept))]
    return NormalImages(distinct, hashes, learned, held_out, len(bad))


def normal_samples(images: Sequence[Sample] | Sequence[Path] | Sequence[str]) -> list[Sample]:
    """The given images as samples.

    Raises:
        DataError: If it is no list of samples or paths, a sample is anomalous, or there is no image.
    """
    if isinstance(images, str | Path):  # a str is a sequence of str, too
        raise DataError(
            "{images} is a single path. Give images, e.g. blemish.open_dataset(folder).train.", images=images
        )
    try:
        samples = [
            image if isinstance(image, Sample) else Sample(Path(image), 0, "train") for image in images
        ]
    except TypeError as error:
        raise DataError(
            "Images are samples or paths, got {name}: {error}. Give a list, e.g. Dataset.train.",
            name=type(images).__name__,
            error=error,
        ) from None
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


def by_product(images: Sequence[Sample] | Sequence[Path] | Sequence[str]) -> list[list[Path]]:
    """The paths of auxiliary images, those of each category by themselves; paths without a category are one product."""
    products: dict[str, list[Path]] = {}
    for image in images:
        category, path = (image.category, image.path) if isinstance(image, Sample) else ("", Path(image))
        products.setdefault(category, []).append(path)
    return list(products.values())


def without_excluded(samples: Sequence[Sample], exclude: Sequence[Path] | Sequence[str]) -> Sequence[Sample]:
    """The samples but those of the excluded files, which may be written as `names.printable` writes them.

    Raises:
        DataError: If an excluded file is not among them.
    """
    if not exclude:
        return samples
    if isinstance(exclude, str | Path):  # a str is a sequence of str, too
        raise DataError("{path} is a single path. Give a list of the images to exclude.", path=exclude)
    files = [resolved(sample.path) for sample in samples]
    known = {name: file for file in files for name in (printable(file), str(file))}
    left_out = set()
    for path in exclude:
        file = known.get(str(resolved(Path(path))))
        if file is None:
            raise DataError(
                "{path} is to be excluded, but is not among the images to learn from. Correct the path or remove it "
                "from the list.",
                path=path,
            )
        left_out.add(file)
    return [sample for sample, file in zip(samples, files, strict=True) if file not in left_out]


def raise_for_all_unreadable(samples: Sequence[Sample], error: DataError, progress: Progress) -> NoReturn:
    """Raise one error that names all unreadable images, after one of them ended the work with `error`."""
    bad = check_images([sample.path for sample in samples], progress)
    if not bad:
        raise error
    raise DataError(
        "{count} of {total} images cannot be read:\n{listed}\n"
        "Repair or remove them, or skip them with --skip-unreadable (skip_unreadable=True).",
        count=len(bad),
        total=len(samples),
        listed=lines([image.reason for image in bad], "  "),
    ) from error


def _names(samples: Sequence[Sample]) -> list[str]:
    """The images' paths relative to their common folder, in the order of training."""
    paths = [sample.path.absolute() for sample in samples]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return [printable(path.relative_to(folder).as_posix()) for path in paths]
