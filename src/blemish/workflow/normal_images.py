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


def raise_for_all_unreadable(samples: Sequence[Sample], error: DataError, progress: Progress) -> NoReturn:
    """Raise one error that names all unreadable images, after one of them ended the work with `error`."""
    paths = list(dict.fromkeys(sample.path for sample in samples))
    bad = check_images(paths, progress)
    if not bad:
        raise error
    raise DataError(
        "{count} of {total} images cannot be read:\n{listed}\n"
        "Repair or remove them, or skip them with --skip-unreadable (skip_unreadable=True).",
        count=len(bad),
        total=len(paths),
        listed=lines([image.reason for image in bad], "  "),
    ) from error


def _names(samples: Sequence[Sample]) -> list[str]:
    """The images' paths relative to their common folder, in the order of training."""
    paths = [sample.path.absolute() for sample in samples]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return [printable(path.relative_to(folder).as_posix()) for path in paths]
