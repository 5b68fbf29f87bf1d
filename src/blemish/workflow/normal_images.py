"""Splits normal images into those for training and those for calibration."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, Self

import numpy as np

from blemish.data.checks import check_images
from blemish.data.content import HASH_DIGITS, content_hashes, fingerprint, without_copies
from blemish.data.find import natural_order
from blemish.data.splits import draw_shots, hold_out, require_two
from blemish.errors import DataError
from blemish.manifest import TrainingData
from blemish.messages import lines, message
from blemish.names import printable
from blemish.types import Progress, Sample
from blemish.workflow.groups import Groups

WATCHED = 0.1
"""Share of the images learned from that a method with `uses_held_out` does not train on."""
HELD_OUT = 0.1
"""Share of the images that is held out unless the user says otherwise."""
Calibrate = Literal["auto", "cross", "hold-out"]
"""How normal images are scored for the thresholds: "cross" learns from all of them, "hold-out" not from some."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which images are held out to set the thresholds: those beyond `shots`, a `share`, or none."""

    cross: bool
    share: float = HELD_OUT
    shots: int | None = None

    @classmethod
    def chosen(
        cls, calibrate: Calibrate, share: float | None, shots: int | None, *, crosses_by_default: bool
    ) -> Self:
        """The division that the user's choices mean; a share or shots mean that images are held out.

        Raises:
            ValueError: If they contradict each other.
        """
        if calibrate not in ("auto", "cross", "hold-out"):
            raise ValueError(
                message("calibrate must be auto, cross or hold-out, got {calibrate!r}.", calibrate=calibrate)
            )
        holds_out = share is not None or shots is not None
        if calibrate == "cross" and holds_out:
            raise ValueError(
                message(
                    "With calibrate=cross no image is held out. Leave out the share to hold out and the shots."
                )
            )
        cross = calibrate == "cross" or (calibrate == "auto" and crosses_by_default and not holds_out)
        return cls(cross, HELD_OUT if share is None else share, shots)

    def of(
        self, samples: Sequence[Sample], groups: Sequence[int], seed: int
    ) -> tuple[Sequence[Sample], Sequence[Sample]]:
        """The samples learned from, sorted by path, and those held out, without parting groups."""
        if self.shots is not None:
            return draw_shots(samples, self.shots, seed, groups)
        if self.cross:
            return sorted(samples, key=lambda sample: natural_order(sample.path)), ()
        return hold_out(samples, self.share, seed, groups)


@dataclass(frozen=True, slots=True)
class NormalImages:
    """The readable normal images of one fit, each content once, divided."""

    samples: Sequence[Sample]
    """All images, in the order given."""
    hashes: Mapping[Path, str]
    """Hash of each of their files."""
    groups: Groups
    learned: Sequence[Sample]
    """Images learned from, in the order of training."""
    held_out: Sequence[Sample]
    """Images that the thresholds rest on; none if these are the images learned from. With shots, the other images of
    their groups are not used."""
    skipped: int
    """Number of images left out because they cannot be read."""

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        division: Division,
        group: Callable[[Sequence[Sample]], Groups],
        seed: int,
        *,
        skip_unreadable: bool,
        progress: Progress,
    ) -> Self:
        """Group and divide images, and shuffle those learned from: the first ones are a random sample of all.

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
        require_two(distinct)
        groups = group(distinct)
        kept, held_out = division.of(distinct, groups.numbers, seed)
        learned = [kept[index] for index in np.random.default_rng(seed).permutation(len(kept))]
        return cls(distinct, hashes, groups, learned, held_out, len(bad))

    def groups_of(self, samples: Sequence[Sample]) -> list[int]:
        """The number of the group of each of some of the images."""
        paths = (sample.path for sample in self.samples)
        number_of = dict(zip(paths, self.groups.numbers, strict=True))
        return [number_of[sample.path] for sample in samples]

    def record(self, excluded: int = 0) -> TrainingData:
        """The images' entry in the manifest; `excluded` is the number that the user left out."""
        used = {sample.path for sample in (*self.learned, *self.held_out)}
        samples = [sample for sample in self.samples if sample.path in used]
        return TrainingData(
            category=printable(samples[0].category),
            learned_from=len(self.learned),
            held_out=len(self.held_out),
            skipped=self.skipped,
            excluded=excluded,
            images=tuple(_names(self.learned)),
            group_by=printable(self.groups.rule),
            groups=tuple(self.groups_of(self.learned)),
            fingerprint=fingerprint(samples, self.hashes),
            hashes=tuple(self.hashes[sample.path][:HASH_DIGITS] for sample in samples),
        )


def without_watched(
    learned: Sequence[Sample], groups: Sequence[int]
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The images learned from without about the last tenth of them, and that tenth, by which training is watched.

    Groups are not parted: of a single image or group, nothing is. The thresholds rest on neither part, so that the
    watched images may decide, for example, when training ends.

    Args:
        learned: In the order of training.
        groups: Number of each image's group.
    """
    count = min(max(1, round(WATCHED * len(learned))), len(learned) - 1)
    trained = set(groups[: len(groups) - count])
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample, group in zip(learned, groups, strict=True):
        parts[group not in trained].append(sample)
    return parts


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
