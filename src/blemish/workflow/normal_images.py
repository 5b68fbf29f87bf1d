"""The normal images that a model learns from and is calibrated on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from blemish.data.content import HASH_DIGITS, fingerprint
from blemish.data.dataset import check_images
from blemish.data.splits import hold_out
from blemish.errors import DataError
from blemish.manifest import TrainingData
from blemish.types import Progress, Sample


@dataclass(frozen=True, slots=True)
class NormalImages:
    """The normal images of one fit."""

    samples: Sequence[Sample]
    """All of them, in the order given."""
    learned: Sequence[Sample]
    """Those learned from, in the order that the method sees them."""
    held_out: Sequence[Sample]
    """Those that the thresholds rest on."""
    skipped: int
    """How many were left out because they cannot be read."""

    def record(self, hashes: Mapping[Path, str]) -> TrainingData:
        """Their entry in the manifest."""
        return TrainingData(
            category=self.samples[0].category,
            learned_from=len(self.learned),
            held_out=len(self.held_out),
            skipped=self.skipped,
            images=tuple(_names(self.learned)),
            fingerprint=fingerprint(self.samples, hashes),
            hashes=tuple(hashes[sample.path][:HASH_DIGITS] for sample in self.samples),
        )


def split_images(
    samples: Sequence[Sample], hold_out_share: float, seed: int, *, skip_unreadable: bool, progress: Progress
) -> NormalImages:
    """Hold some images out, and bring the others in random order, so that what comes first stands for all.

    Raises:
        DataError: If there are too few images.
        ValueError: If the share is not between 0 and 1.
    """
    bad = check_images([sample.path for sample in samples], progress) if skip_unreadable else []
    unreadable = {image.path for image in bad}
    readable = [sample for sample in samples if sample.path not in unreadable]
    kept, held_out = hold_out(readable, hold_out_share, seed)
    learned = [kept[index] for index in np.random.default_rng(seed).permutation(len(kept))]
    return NormalImages(readable, learned, held_out, len(bad))


def normal_samples(images: Sequence[Sample] | Sequence[Path] | Sequence[str]) -> list[Sample]:
    """What is given to learn from, as samples.

    Raises:
        DataError: If it is one path, holds anomalous samples, or nothing.
    """
    if isinstance(images, str | Path):  # a str is a sequence of str, too
        raise DataError(f"{images} is one path. Give the images, e.g. blemish.open_dataset(folder).train.")
    samples = [image if isinstance(image, Sample) else Sample(Path(image), 0, "train") for image in images]
    anomalous = [sample for sample in samples if sample.label]
    if anomalous:
        raise DataError(
            f"{len(anomalous)} of the images to learn from are labelled anomalous, the first is {anomalous[0].path}. "
            "Give normal images only, e.g. Dataset.train."
        )
    if not samples:
        raise DataError("There is no image to learn from. Give at least 2 normal images.")
    return samples


def raise_for_all_unreadable(samples: Sequence[Sample], error: DataError, progress: Progress) -> NoReturn:
    """One unreadable image ended the work: look for the others too, so that they can be mended at once."""
    bad = check_images([sample.path for sample in samples], progress)
    if not bad:
        raise error
    listed = "\n".join(f"  {b.reason}" for b in bad)
    raise DataError(
        f"{len(bad)} of {len(samples)} images cannot be read:\n{listed}\n"
        "Mend or remove them, or go on without them with --skip-unreadable (skip_unreadable=True)."
    ) from error


def _names(samples: Sequence[Sample]) -> list[str]:
    """The images' paths below the folder they have in common, in the order they were learned from."""
    paths = [sample.path.absolute() for sample in samples]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(folder).as_posix() for path in paths]
