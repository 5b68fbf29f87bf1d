"""Finds the images of a training set that a person should look at: probable defects, copies, unreadable files."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.content import content_hashes
from blemish.data.find import natural_order
from blemish.data.input_size import auto_preprocess
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, MethodError
from blemish.files import require_writable_file
from blemish.inspection.suspects import CopyGroup, Suspects
from blemish.messages import lines, message
from blemish.model import Model
from blemish.reports.suspects import Pair, SuspectsReport, write_suspects
from blemish.types import Progress, Sample, no_progress
from blemish.workflow.cross_scores import (
    FOLDS,
    CrossScores,
    Recipe,
    Take,
    assign_folds,
    cross_scores,
    no_take,
    ranked,
)
from blemish.workflow.given import Given, normal_samples, require_model, require_preprocess, require_seed
from blemish.workflow.model_scores import score_with_model
from blemish.workflow.near_copies import NearCopies, Seen, difference, find_near_copies, look_at

METHOD = "patchcore"
CHEAP: Mapping[str, Mapping[str, Any]] = {METHOD: {"bank_size": 2000}}
"""Defaults for methods whose own ones take long: ten models are fitted, and none of them is kept."""
FEWEST = 5
"""Smallest number of different images whose scores can be compared; near-copies count as one."""


def suspects(
    images: Given,
    *,
    model: Model | None = None,
    method: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    preprocess: Preprocess | None = None,
    rate: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    report: Path | str | None = None,
    progress: Progress = no_progress,
) -> Suspects:
    """Find the images of a training set that probably show a defect, occur twice or cannot be read.

    Every image is scored by a model that did not learn from it. Nothing is removed: a person looks at the images and
    leaves out what is wrong, by `exclude` of `fit`.

    Args:
        images: Normal images; samples labelled anomalous are refused.
        model: Scores the images that it did not learn from, and those that it learned without what it learned from
            them. Without it, a method is fitted to five folds of the images, twice.
        method: Name of that method; default patchcore with a small memory bank.
        arguments: For its constructor.
        preprocess: Its preprocessing; default `auto_preprocess(images)`.
        rate: Rate of false discoveries: about the largest share of normal images among the suspected ones.
        seed: Seed of the folds and of everything random in the method.
        device: Device of torch: "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:1".
        report: File for a report in HTML; none is written if not given. If writing it fails at the end, a warning
            says so, and the result is returned without it.
        progress: Called with the progress of each phase.

    Raises:
        DataError: If there are fewer than five different images that can be read; the text names the copies.
        MethodError: If the method cannot be built or cannot learn from the images, or a method is given beside a model.
        OSError: If the report cannot be written; this is checked first.
        ModelError: If the model is none.
        ValueError: If the rate is not between 0 and 1, or the seed is negative or too large.
    """
    from blemish.runtimes.torch import resolve_device  # torch is not needed to inspect

    device = resolve_device(device)
    _require_settings(model, method, arguments, preprocess, rate, seed)
    if report is not None:
        require_writable_file(Path(report))
    samples = normal_samples(images)
    recipe = _recipe(samples, model, method, arguments, preprocess, seed, device)
    distinct, same = _by_content(samples, progress)
    seen = look_at([sample.path for sample in distinct], recipe.preprocess, device, progress)
    near = find_near_copies(seen, progress)
    readable = [distinct[number] for number in seen.readable]
    copies = (
        *same,
        *(CopyGroup(tuple(readable[n].path for n in group.places), group.correlation) for group in near),
    )
    _require_different(len(readable) - sum(len(group.places) - 1 for group in near), copies)
    drawn = SuspectsReport()
    take: Take = drawn.offer if report is not None else no_take
    scores, how = _scored(recipe, model, readable, [group.places for group in near], take, progress)
    found = Suspects(
        ranking=ranked(readable, scores),
        copies=copies,
        unreadable=tuple(seen.unreadable),
        rate=rate,
        how=how,
    )
    if report is None:
        return found
    return write_suspects(drawn, Path(report), found, readable, _pairs(seen, readable, near))


def _require_settings(
    model: Model | None,
    method: str | None,
    arguments: Mapping[str, Any] | None,
    preprocess: Preprocess | None,
    rate: float,
    seed: int,
) -> None:
    """Check what can be checked before any image is read."""
    if not (isinstance(rate, Real) and 0 < rate < 1):
        raise ValueError(
            message("The rate of false discoveries must be between 0 and 1, got {rate!r}.", rate=rate)
        )
    require_seed(seed)
    require_preprocess(preprocess)
    if not isinstance(method, str | None):  # models are fitted anew for each part of the images
        raise MethodError(
            "method must be a name, such as 'patchcore', got {method!r:.80}. Give its arguments as arguments={{…}}.",
            method=method,
        )
    if model is not None:
        require_model(model)
        if any(given is not None for given in (method, arguments, preprocess)):
            raise MethodError(
                "method, arguments and preprocess are those of the model. Give a model, or these."
            )


def _recipe(
    samples: Sequence[Sample],
    model: Model | None,
    method: str | None,
    arguments: Mapping[str, Any] | None,
    preprocess: Preprocess | None,
    seed: int,
    device: str,
) -> Recipe:
    """How models are fitted where they are."""
    if model is not None:
        manifest = model.manifest
        return Recipe(manifest.method, manifest.arguments, manifest.preprocess, seed, device)
    name = method or METHOD
    given = {**CHEAP.get(name, {}), **(arguments or {})}
    return Recipe(name, given, preprocess or auto_preprocess(samples), seed, device)


def _by_content(samples: Sequence[Sample], progress: Progress) -> tuple[list[Sample], list[CopyGroup]]:
    """Each content once, and the groups of files with the same bytes."""
    of_path = {sample.path: sample for sample in samples}
    groups: dict[str, list[Path]] = {}
    for path, digest in content_hashes(of_path, progress).items():
        groups.setdefault(digest, []).append(path)
    copies = [CopyGroup(tuple(sorted(group, key=natural_order)), None) for group in groups.values()]
    return [of_path[group.paths[0]] for group in copies], [group for group in copies if len(group.paths) > 1]


def _require_different(count: int, copies: Sequence[CopyGroup]) -> None:
    """Check the number of images that can be read, of which copies count as one; the error names the copies."""
    if count >= FEWEST:
        return
    if copies:
        raise DataError(
            "Found {count} different images that can be read, but at least {fewest} are needed to compare their "
            "scores; others are copies:\n{copies}\nAdd images of other parts.",
            count=count,
            fewest=FEWEST,
            copies=lines([str(group) for group in copies], "  "),
        )
    raise DataError(
        "Found {count} different images that can be read, but at least {fewest} are needed to compare their "
        "scores. Add images.",
        count=count,
        fewest=FEWEST,
    )


def _scored(
    recipe: Recipe,
    model: Model | None,
    samples: Sequence[Sample],
    copies: Sequence[Sequence[int]],
    take: Take,
    progress: Progress,
) -> tuple[CrossScores, str]:
    """The scores, and a sentence that says how they were computed."""
    if model is not None:
        return score_with_model(model, recipe, samples, copies, take, progress)
    folds = np.array(assign_folds(copies, range(len(samples)), FOLDS, recipe.seed))
    how = message(
        "Every image was scored by {method} that learned from the other folds of {folds}, in two passes.",
        method=recipe.method,
        folds=FOLDS,
    )
    return cross_scores(recipe, samples, folds, copies, take, progress), how


def _pairs(seen: Seen, samples: Sequence[Sample], near: Sequence[NearCopies]) -> Iterator[Pair]:
    """The first near-copy of each group beside each other one."""
    for group in near:
        first, *others = group.places
        for other in others:
            yield Pair(samples[first].path, samples[other].path, difference(seen, first, other))
