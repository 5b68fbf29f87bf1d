"""Scores images with a model as if it had not learned from them, for those that it learned from, too."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from blemish.data.content import HASH_DIGITS, content_hashes
from blemish.manifest import TrainingData
from blemish.messages import message
from blemish.metrics.outliers import robust_z
from blemish.model import Model
from blemish.names import printable
from blemish.scoring import OF_DAMAGE, Scored, naming_damage
from blemish.types import Progress, Sample
from blemish.workflow.cross_scores import (
    ALWAYS_LEARNED,
    COMPARABLE,
    FOLDS,
    CrossScores,
    Numbers,
    Recipe,
    Take,
    assign_folds,
    cross_scores,
    read,
)
from blemish.workflow.normal_scores import score_without

if TYPE_CHECKING:
    from blemish.runtimes.torch import TorchRuntime

UNKNOWN = -1
"""Number of a training image that is known by its content, but not by its name."""
DIRECT, WITHOUT = -2, -3
"""What `take` gets as the fold of an image that the model scored: as it is, or without what it learned from it."""


def score_with_model(
    model: Model,
    recipe: Recipe,
    samples: Sequence[Sample],
    copies: Sequence[Sequence[int]],
    take: Take,
    progress: Progress,
) -> tuple[CrossScores, str]:
    """The scores of all images, and a sentence that says how many were computed in which way.

    Args:
        model: Scores what it can.
        recipe: How models are fitted for the others: images that it learned from and cannot leave out.
        samples: Images.
        copies: Groups of near-copies, by their numbers.
        take: Called with each result.
        progress: Called with the number of images scored.
    """
    hashes = content_hashes([sample.path for sample in samples])
    numbers = training_numbers(model.manifest.data, samples, [hashes[sample.path] for sample in samples])
    learned = [place for place in range(len(samples)) if place in numbers]
    direct = [place for place in range(len(samples)) if place not in numbers]
    leaves_out = _leaves_out(model)
    without = [place for place in learned if leaves_out and numbers[place] != UNKNOWN]
    crossed = sorted({*learned} - {*without})
    scores, z = np.full(len(samples), np.nan), np.full(len(samples), np.nan)
    for place, result in zip(direct, model.scorer.stream([samples[p] for p in direct], read), strict=True):
        scores[place] = result.score
        take(DIRECT, place, result)
        progress("scoring images", int(np.isfinite(scores).sum()), len(samples))
    for place in without:
        result = _without(model, samples[place], _group(model.manifest.data, numbers[place]))
        scores[place] = result.score
        take(WITHOUT, place, result)
        progress("scoring images", int(np.isfinite(scores).sum()), len(samples))
    for part in (direct, without):
        z[part] = robust_z(scores[part], _reference(scores[part], model))
    if crossed:
        folds = np.full(len(samples), ALWAYS_LEARNED)
        folds[crossed] = assign_folds(copies, crossed, FOLDS, recipe.seed)
        fitted = cross_scores(recipe, samples, folds, copies, take, progress)
        scores[crossed], z[crossed] = fitted.scores[crossed], fitted.z[crossed]
        if len(crossed) < COMPARABLE:
            z[crossed] = robust_z(scores[crossed], _reference(scores[crossed], model))
    how = message(
        "The model scored {direct} images that it had not learned from, and {without} without what it had learned from "
        "them. Models fitted anew scored {crossed} that it had learned from and cannot leave out.",
        direct=len(direct),
        without=len(without),
        crossed=len(crossed),
    )
    return CrossScores(scores, z), how


def training_numbers(data: TrainingData, samples: Sequence[Sample], hashes: Sequence[str]) -> dict[int, int]:
    """The number in training of each sample that the model learned from, by its place; `UNKNOWN` if names do not tell.

    A model stores the hashes of the images that it learned from and of those held out, but only the names of the
    former. So an image with a known hash is held out if all images that were learned from are found elsewhere.
    """
    known = set(data.hashes)
    named: dict[str, int | None] = {}
    for number, name in enumerate(data.images):
        named[name] = None if name in named else number  # a name that stands for two images says nothing
    seen = [place for place, digest in enumerate(hashes) if digest[:HASH_DIGITS] in known]
    found = {place: _number(samples[place], named) for place in seen}
    by_name = {place: number for place, number in found.items() if number is not None}
    if len(set(by_name.values())) == len(by_name) == data.learned_from:
        return by_name
    twice = {number for number in by_name.values() if list(by_name.values()).count(number) > 1}
    return {
        place: UNKNOWN if number is None or number in twice else number for place, number in found.items()
    }


def _number(sample: Sample, named: Mapping[str, int | None]) -> int | None:
    """The number of the longest stored name in which the sample's path ends."""
    parts = sample.path.absolute().parts
    for first in range(1, len(parts)):
        name = printable("/".join(parts[first:]))
        if name in named:
            return named[name]
    return None


def _leaves_out(model: Model) -> bool:
    """Whether the model's method can leave any training image out."""
    from blemish.runtimes.torch import TorchRuntime

    runtime = model.runtime
    if not isinstance(runtime, TorchRuntime) or model.manifest.data.learned_from < 2:
        return False
    return runtime.method.leaves_out


def _group(data: TrainingData, number: int) -> list[int]:
    """The numbers of the training images of the same group."""
    return [other for other, group in enumerate(data.groups) if group == data.groups[number]]


def _without(model: Model, sample: Sample, numbers: Sequence[int]) -> Scored:
    method = cast("TorchRuntime", model.runtime).method
    with naming_damage(*OF_DAMAGE):
        return score_without(method, model.preprocess, read(sample), numbers)


def _reference(scores: Numbers, model: Model) -> Numbers:
    """The scores that median and deviation are taken from: if these are few, those that the thresholds rest on."""
    normal = np.asarray(model.calibration.normal_scores)
    return normal if len(scores) < min(COMPARABLE, len(normal)) else scores
