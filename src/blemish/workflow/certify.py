"""Certifies a model: sets its review threshold by defective images, and states which miss rate this proves.

Whether an image is OK depends on the review threshold in one direction only, rules and zones included: each image has
the score up to which it is OK (`Inspection.decisive`). So testing thresholds in a fixed order from the safest on, until
one fails (Bauer, "Multiple testing in clinical trials", 1991; Angelopoulos et al., "Learn then test", 2021), is to take
an order statistic of these scores.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from blemish.calibration import Calibration
from blemish.calibration.certificate import Certificate, DefectKind
from blemish.data.content import HASH_DIGITS, content_hashes
from blemish.errors import DataError
from blemish.image_inputs import read
from blemish.inspection.result import Unreadable
from blemish.manifest import Manifest, read_manifest
from blemish.metrics.effective import effective_number
from blemish.metrics.rates import miss_rank, spent, upper_bound
from blemish.model import Model, load
from blemish.model_settings import change_manifest
from blemish.names import printable
from blemish.types import Progress, Sample, Verdict, no_progress
from blemish.workflow.given import Given, as_samples
from blemish.workflow.groups import NONE, GroupBy, group_label


def certify(
    folder: Path | str,
    good: Given,
    defects: Given,
    *,
    miss_rate: float = 0.02,
    confidence: float = 0.95,
    group_by: GroupBy = NONE,
    keep_thresholds: bool = False,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Certificate:
    """Prove that a saved model misses few defects, and store the certificate in the model.

    The review threshold is lowered as far as the promise takes, never raised. With too few defective images it becomes
    the lowest of their scores, and the certificate states what that proves.

    Args:
        folder: The model.
        good: Normal images that the model did not learn from; they give the price.
        defects: Defective images.
        miss_rate: Share of defective units that may be OK.
        confidence: Of all statements.
        group_by: Which images are of one part, lot or run: "none", "folder", or a regular expression; see `fit`.
        keep_thresholds: Whether to test the thresholds as they are.
        device: Of torch.
        progress: Called with the number of images judged.

    Raises:
        DataError: If an image cannot be read, was learned from, or is both good and defective, or a list is empty.
        ModelError: If the folder is not a valid model, or another process changed it meanwhile.
        ValueError: If a rate is not between 0 and 1.
    """
    before = read_manifest(Path(folder))
    model = load(folder, device=device)
    given = as_samples(good), as_samples(defects)
    hashes = content_hashes([sample.path for sample in (*given[0], *given[1])], progress)
    _require_fresh(given, hashes, model.manifest)
    images = tuple(sorted({hashes[sample.path][:HASH_DIGITS] for sample in given[1]}))
    use = _use(before.certificate, images)
    fine, bad = (_judged(model, samples, group_by, progress) for samples in given)
    calibration, proved = prove(
        bad, model.calibration, miss_rate, 1 - spent(1 - confidence, use), keep=keep_thresholds
    )
    threshold = calibration.lowest_threshold
    scrapped = fine.verdicts.count("NG")
    reviewed = len(fine.verdicts) - scrapped - fine.ok(threshold)
    certificate = Certificate(
        policy=before.changed(calibration=calibration).policy,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        miss_rate=miss_rate,
        confidence=confidence,
        use=use,
        images=images,
        defects=len(bad.verdicts),
        defects_worth=bad.worth,
        missed=bad.ok(threshold),
        kinds=_kinds(given[1], bad, threshold),
        groups=bad.groups,
        proved=proved,
        good=len(fine.verdicts),
        good_worth=fine.worth,
        scrapped=scrapped,
        reviewed=reviewed,
        scrap_bound=fine.bound(scrapped, confidence),
        review_bound=fine.bound(reviewed, confidence),
    )
    changes = {"calibration": calibration, "certificate": certificate}
    change_manifest(Path(folder), lambda manifest: manifest.changed(**changes), before)
    return certificate


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on images of one label."""

    verdicts: list[Verdict]
    decisive: Sequence[float]
    """The score up to which each is OK."""
    worth: int
    groups: int

    def ok(self, threshold: float) -> int:
        """Number of images that are OK with this review threshold."""
        return sum(value <= threshold for value in self.decisive)

    def bound(self, count: int, confidence: float) -> float:
        """Upper bound of the rate of what `count` images have shown."""
        units = self.worth
        return upper_bound(math.ceil(count * units / len(self.verdicts)), units, confidence)


def prove(
    bad: Judged, calibration: Calibration, miss_rate: float, confidence: float, *, keep: bool = False
) -> tuple[Calibration, float]:
    """The calibration whose review threshold keeps a miss rate, and the miss rate that is proved.

    The threshold goes below the j-th smallest score of defective images, the largest that keeps the rate (`miss_rank`),
    or with too few images below the smallest, which proves a higher rate. If rules let so many images pass that this
    does not help, or if `keep` says so, it stays, and what it proves as it is counts.

    Args:
        bad: Defective images.
        calibration: Its review threshold is lowered, never raised.
        miss_rate: The promise.
        confidence: Of it.
        keep: Whether the threshold stays.
    """
    count, passed = len(bad.decisive), sum(value == -math.inf for value in bad.decisive)
    rank = miss_rank(bad.worth, miss_rate, confidence)
    place = max(1, math.floor((rank or 0) * count / bad.worth))
    if keep or place <= passed:
        return calibration, bad.bound(bad.ok(calibration.lowest_threshold), confidence)
    lowest = float(np.nextafter(sorted(bad.decisive)[place - 1], -math.inf))
    if lowest < calibration.lowest_threshold:
        calibration = calibration.changed(review_threshold=lowest)
    return calibration, bad.bound(0, confidence) if rank is None else miss_rate


def _judged(model: Model, samples: Sequence[Sample], group_by: GroupBy, progress: Progress) -> Judged:
    """The verdicts on samples."""
    verdicts: list[Verdict] = []
    decisive: list[float] = []
    scores: list[float] = []
    for scored in model.scorer.stream([sample.path for sample in samples], read, Unreadable):
        if isinstance(scored, Unreadable):
            raise scored.error
        found = model.judge(scored.score, scored.anomaly_map, scored.image, scored.path)
        verdicts.append(found.verdict)
        decisive.append(found.decisive)
        scores.append(found.score)
        progress("judging", len(verdicts), len(samples))
    if group_by == NONE:
        groups = [*range(len(samples))]
    else:
        labels = [group_label(sample.path, group_by) for sample in samples]
        groups = [labels.index(label) for label in labels]
    return Judged(verdicts, decisive, effective_number(scores, groups), len(set(groups)))


def _require_fresh(
    given: tuple[Sequence[Sample], Sequence[Sample]], hashes: dict[Path, str], manifest: Manifest
) -> None:
    """Check that there are images of both kinds, none of both, and none that the model knows.

    Raises:
        DataError: If not.
    """
    good, defects = ({hashes[sample.path]: sample.path for sample in samples} for samples in given)
    for samples, kind in zip((good, defects), ("normal", "defective"), strict=True):
        if not samples:
            raise DataError("There is no {kind} image to certify with. Give at least one.", kind=kind)
    both = good.keys() & defects.keys()
    if both:
        first = sorted(both)[0]
        raise DataError(
            "{path} is both a normal and a defective image ({other}). Remove it from one of them.",
            path=good[first],
            other=defects[first],
        )
    known = set(manifest.data.hashes)
    learned = [path for digest, path in good.items() if digest[:HASH_DIGITS] in known]
    if learned:
        raise DataError(
            "{count} of the normal images were used to fit the model, the first is {path}, so they do not tell the "
            "price. Give images that were not.",
            count=len(learned),
            path=learned[0],
        )


def _use(before: Certificate | None, digests: Sequence[str]) -> int:
    """The how manieth use of these defective images it is."""
    return 1 if before is None or not set(before.images) & set(digests) else before.use + 1


def _kinds(samples: Sequence[Sample], bad: Judged, threshold: float) -> tuple[DefectKind, ...]:
    """The defective images by the folder that they lie in."""
    names = [printable(sample.path.parent.name) for sample in samples]
    missed = Counter(name for name, value in zip(names, bad.decisive, strict=True) if value <= threshold)
    return tuple(
        DefectKind(name=name, tested=tested, missed=missed[name]) for name, tested in Counter(names).items()
    )
