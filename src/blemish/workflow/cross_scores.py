"""Scores images by models that did not learn from them: fits a method to all folds of the images but one, in turn.

Defects in the training images hide each other: what one image shows, the model may have learned from another. So all
is done twice, and the second pass does not learn from the images that scored highest in the first.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import read_image
from blemish.data.loading import Inputs
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning
from blemish.inspection.suspects import Suspect
from blemish.messages import message
from blemish.metrics.outliers import q_values, robust_z, tail_probability
from blemish.plugins import create_method
from blemish.scoring import Decoded, Scored, Scorer, batch_size
from blemish.types import Progress, Sample

Numbers = NDArray[np.float64]
Folds = NDArray[np.int64]
"""The fold of each image; `ALWAYS_LEARNED` for those that are only learned from."""
Take = Callable[[int, int, Scored], None]
"""Called with the fold, the number of the image, and its score with the map."""

FOLDS = 5
ALWAYS_LEARNED = -1
COMPARABLE = 40
"""Smallest fold whose scores are standardised by themselves: the median and deviation of fewer are too uncertain."""
LEFT_OUT = 0.15
"""Share of the images, those of the highest scores, that the second pass does not learn from; copies count as one."""
FEWEST_LEARNED = 2
"""Smallest number of images, copies counted as one, that the second pass learns from."""


class CrossScores(NamedTuple):
    """Scores of all images, NaN for those that are only learned from."""

    scores: Numbers
    z: Numbers
    """Robust z, comparable between the folds."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the models that score are fitted."""

    method: str
    arguments: Mapping[str, Any]
    preprocess: Preprocess
    seed: int
    device: str

    def scorer(self, samples: Sequence[Sample], progress: Progress) -> Scorer:
        """A scorer that learned from these images."""
        from blemish.runtimes.torch import TorchRuntime  # torch is not needed to inspect
        from blemish.training import learn

        learner = create_method(self.method, arguments=self.arguments)
        inputs = Inputs(samples, self.preprocess)
        size = batch_size(self.preprocess)
        learn(learner, inputs, batch_size=size, seed=self.seed, device=self.device, progress=progress)
        return Scorer(TorchRuntime(learner, self.device), self.preprocess)


def assign_folds(groups: Sequence[Sequence[int]], numbers: Sequence[int], folds: int, seed: int) -> list[int]:
    """The fold of each image of `numbers`, at random; images of a group of copies share theirs.

    Otherwise a defect would be learned from the copy of the image that shows it.
    """
    rng = np.random.default_rng(seed)
    units = _units(groups)
    members: dict[int, list[int]] = {}
    for number in numbers:
        members.setdefault(units.get(number, number), []).append(number)
    listed, sizes, fold_of = list(members.values()), [0] * folds, {}
    for place in rng.permutation(len(listed)).tolist():
        fold = sizes.index(min(sizes))
        fold_of.update(dict.fromkeys(listed[place], fold))
        sizes[fold] += len(listed[place])
    return [fold_of[number] for number in numbers]


def cross_scores(
    recipe: Recipe,
    samples: Sequence[Sample],
    fold_of: Folds,
    copies: Sequence[Sequence[int]],
    take: Take,
    progress: Progress,
) -> CrossScores:
    """The score of each image by a model that did not learn from its fold, after two passes.

    Args:
        recipe: How each model is fitted.
        samples: Images.
        fold_of: The fold of each; there must be images to learn from outside of each fold.
        copies: Groups of near-copies, by their numbers.
        take: Called with each result of the second pass.
        progress: Called with the number of images scored.
    """
    total = 2 * int((fold_of != ALWAYS_LEARNED).sum())
    everything = [np.ones(len(samples), np.bool_)] * (int(fold_of.max()) + 1)
    first = _pass(recipe, samples, fold_of, everything, lambda *_: None, _part(progress, 0, total))
    learnable = _learnable(standardised(first, fold_of), fold_of, copies)
    second = _pass(recipe, samples, fold_of, learnable, take, _part(progress, total // 2, total))
    return CrossScores(second, standardised(second, fold_of))


def _learnable(z: Numbers, fold_of: Folds, copies: Sequence[Sequence[int]]) -> list[NDArray[np.bool_]]:
    """For each fold, the images that the second pass may learn from.

    These are not the highest scores with all their copies, except that the lowest of these stay where too few others
    would be left.
    """
    units = _units(copies)
    unit_of = np.array([units.get(number, number) for number in range(len(z))])
    highest = np.argsort(-z, kind="stable")[: int((fold_of != ALWAYS_LEARNED).sum())]  # NaN is last
    ranked = list(dict.fromkeys(unit_of[highest].tolist()))
    left_out = ranked[: math.ceil(LEFT_OUT * len(ranked))]
    masks = []
    for fold in range(int(fold_of.max()) + 1):
        others = {*unit_of[fold_of != fold].tolist()}
        missing = list(left_out)
        while missing and len(others.difference(missing)) < FEWEST_LEARNED:
            missing.pop()
        masks.append(~np.isin(unit_of, missing))
    return masks


def _units(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """The number that stands for each image of a group of copies; others stand for themselves."""
    return {number: min(group) for group in groups for number in group}


def standardised(scores: Numbers, fold_of: Folds) -> Numbers:
    """Robust z of scores from several models, of each fold by itself if every fold has scored enough images."""
    z = np.full(len(scores), np.nan)
    folds = np.unique(fold_of[fold_of != ALWAYS_LEARNED])
    parts = [fold_of == fold for fold in folds.tolist()]
    if min(int(part.sum()) for part in parts) < COMPARABLE:
        parts = [fold_of != ALWAYS_LEARNED]
    for part in parts:
        z[part] = robust_z(scores[part])
    return z


def no_take(fold: int, number: int, scored: Scored) -> None:
    """Takes results for no report."""


def ranked(samples: Sequence[Sample], scores: CrossScores) -> tuple[Suspect, ...]:
    """The images with their q-values, highest z first."""
    q = q_values(tail_probability(scores.z))
    order = np.argsort(-scores.z, kind="stable").tolist()
    return tuple(
        Suspect(samples[n].path, float(scores.scores[n]), float(scores.z[n]), float(q[n])) for n in order
    )


def read(sample: Sample) -> Decoded:
    """The decoded image of a sample."""
    return Decoded(sample.path, read_image(sample.path))


def _pass(
    recipe: Recipe,
    samples: Sequence[Sample],
    fold_of: Folds,
    learnable: Sequence[NDArray[np.bool_]],
    take: Take,
    progress: Callable[[int], Progress],
) -> Numbers:
    """The score of each image by a model that learned from the learnable images of all other folds."""
    scores = np.full(len(samples), np.nan)
    done = 0
    for fold in np.unique(fold_of[fold_of != ALWAYS_LEARNED]).tolist():
        learned = [samples[number] for number in np.flatnonzero((fold_of != fold) & learnable[fold]).tolist()]
        with warnings.catch_warnings():
            if done:  # the first fit has warned
                warnings.simplefilter("ignore", BlemishWarning)
            scorer = recipe.scorer(learned, progress(done))
        numbers = np.flatnonzero(fold_of == fold).tolist()
        for number, result in zip(numbers, scorer.stream([samples[n] for n in numbers], read), strict=True):
            scores[number] = result.score
            take(fold, number, result)
            done += 1
            progress(done)("scoring images", done, len(samples))
    return scores


def _part(progress: Progress, before: int, total: int) -> Callable[[int], Progress]:
    """Progress of one pass: the number of images scored in all, with what a fit does at the moment as a note."""

    def at(done: int) -> Progress:
        def report(phase: str, part: int, whole: int | None, note: str = "", /) -> None:
            doing = message("{phase} {part} of {whole}", phase=message(phase), part=part, whole=whole or "?")
            progress("cross-scoring", before + done, total, doing)

        return report

    return at
