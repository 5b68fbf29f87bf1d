"""Builds the report of an evaluation: selects images while they are inspected, then writes the HTML file."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import numpy as np

from blemish.inspection.annotated import zoom_peak
from blemish.inspection.result import Inspection
from blemish.manifest import Manifest
from blemish.messages import listed, message
from blemish.metrics.evaluation import NUMBERS, Evaluation
from blemish.names import printable
from blemish.reports.gallery import GalleryPicker, ImageArrays
from blemish.reports.html import ReportData, write_report
from blemish.types import Mask, Sample, Verdict

PACKAGES = ("blemish", "numpy", "torch", "onnxruntime")
"""Packages whose versions a report states, if they are installed."""


class ReportBuilder:
    """Collects images by `observe`, an argument of `evaluate`, then writes the report.

    Args:
        manifest: Manifest of the evaluated model.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._picker = GalleryPicker()
        self._verdicts: Counter[tuple[int, Verdict]] = Counter()

    def observe(self, sample: Sample, inspection: Inspection, mask: Mask | None) -> None:
        """Take one image; thumbnails of a few are kept."""
        self._verdicts[sample.label, inspection.verdict] += 1
        self._picker.offer(
            printable("/".join(sample.path.parts[-3:])),
            printable(sample.defect_type),
            sample.label,
            inspection.score,
            inspection.verdict,
            lambda: ImageArrays(
                inspection.image,
                inspection.calibration.relative_map(inspection.anomaly_map),
                inspection.defect_mask,
                mask,
                zoom_peak(inspection)[0],
                inspection.regions[0] if inspection.regions else None,
                inspection.reason,
            ),
        )

    def write(self, path: Path, evaluation: Evaluation) -> Path:
        """Write the report as one HTML file; a missing folder is created."""
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest = self.manifest
        category = manifest.data.category
        preprocess = {f"input {name}": value for name, value in manifest.preprocess.to_dict().items()}
        report = ReportData(
            title=f"{category}: {manifest.method}" if category else manifest.method,
            method=manifest.method,
            category=category,
            date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
            arguments={**manifest.arguments, **preprocess},
            dataset=_facts(manifest, evaluation),
            metrics={name: getattr(evaluation, name) for name in ("images", *NUMBERS, "seconds_per_image")},
            reasons=evaluation.reasons,
            by_type=evaluation.by_type,
            scores=np.asarray(evaluation.image_scores),
            labels=np.asarray(evaluation.image_labels),
            threshold=manifest.calibration.image_threshold,
            roc=evaluation.image_roc,
            pro=evaluation.pro,
            calibration_text=" ".join([_calibration_text(manifest, evaluation), *self._policy()]),
            losses=list(manifest.history.losses),
            gallery=self._picker.items(),
            without_image=self._picker.others(),
            zero_misses=evaluation.zero_misses,
            environment=dict(_environment()),
        )
        return write_report(path, report)

    def _policy(self) -> Iterator[str]:
        """What goes beyond one threshold: the verdicts, the rules, and the certificate."""
        manifest = self.manifest
        if manifest.rules is None and manifest.calibration.review_threshold is None:
            return
        for label, kind in ((0, message("Normal images")), (1, message("Defective images"))):
            counts = [f"{self._verdicts[label, verdict]} {verdict}" for verdict in get_args(Verdict)]
            yield message("{kind}: {counts}.", kind=kind, counts=listed(counts))
        if manifest.rules is not None:
            yield from manifest.rules.describe().splitlines()
        if manifest.certificate is not None:
            yield from manifest.certificate.describe_for(manifest.policy).splitlines()


def _calibration_text(manifest: Manifest, evaluation: Evaluation) -> str:
    """What the thresholds rest on, and whether normal test images score higher than that."""
    shift = evaluation.shift
    clear = [str(shift)] if shift is not None and shift.is_clear else []
    return " ".join([*manifest.calibration.summary().splitlines(), *clear])


def _facts(manifest: Manifest, evaluation: Evaluation) -> dict[str, object]:
    anomalous = sum(evaluation.image_labels)
    return {
        "learned from": manifest.data.learned_from,
        "held out": manifest.data.held_out,
        "skipped as unreadable": manifest.data.skipped,
        "training data": manifest.data.fingerprint[:16],
        "seed": manifest.seed,
        "tested, normal": evaluation.images - anomalous,
        "tested, defective": anomalous,
    }


def _environment() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "system", f"{platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
