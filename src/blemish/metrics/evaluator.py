"""Evaluates a test set image by image, in bounded memory."""

from collections import Counter
from typing import Any

import numpy as np

from blemish.errors import DataError
from blemish.messages import message
from blemish.metrics import bounds, overlap
from blemish.metrics.evaluation import Evaluation
from blemish.metrics.ranking import Counts, Curve, count
from blemish.metrics.table import PixelTally, ScoreTable
from blemish.types import Map, Mask

AUPRO_LIMIT = 0.3

_NORMAL = None  # the tally's group of normal images; no defect type can have this name


class Evaluator:
    """Takes scored images one by one, then computes all metrics.

    Pixel metrics are exact while the maps hold at most `max_rows` distinct scores, counted for each defect type;
    beyond that they come from bins of at most 2^(s−23) relative width, s the number of dropped bits, and
    `Evaluation.errors` bounds their errors. Memory stays below about 150 bytes × `max_rows`; the images
    themselves are not kept.
    """

    def __init__(self, max_rows: int = 2**23) -> None:
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._types: list[str] = []
        self._pixels = PixelTally(max_rows)
        self._unmasked: Counter[str] = Counter()

    def update(self, score: float, label: int, defect_type: str, anomaly_map: Map, mask: Mask | None) -> None:
        """Take one image.

        A normal image needs no mask; an anomalous one without a mask makes the pixel metrics of its defect
        type and of the whole test set absent.
        """
        anomaly_map = np.asarray(anomaly_map, dtype=np.float32)
        mask = None if mask is None else np.asarray(mask, dtype=np.bool_)
        if label not in (0, 1):
            raise DataError("A label must be 0 (normal) or 1 (anomalous), got {label}.", label=label)
        if not np.isfinite(score) or not np.isfinite(anomaly_map).all():
            raise DataError(
                "Image {number} has a score or an anomaly map that is NaN or infinite, so "
                "no metric can be computed. The weights are damaged or training failed; fit the model again.",
                number=len(self._scores) + 1,
            )
        if mask is not None and mask.shape != anomaly_map.shape:
            raise DataError(
                "The mask is {shape} and the anomaly map {other} (height, width); both "
                "must have the size of the image.",
                shape=mask.shape,
                other=anomaly_map.shape,
            )
        if mask is not None and label == 0 and mask.any():
            raise DataError(
                "A normal image has a mask with defective pixels. Label it anomalous, or remove the mask."
            )
        self._scores.append(float(score))
        self._labels.append(int(label))
        self._types.append(defect_type)
        if label == 1 and mask is None:
            self._unmasked[defect_type] += 1
        else:
            self._pixels.add(defect_type if label else _NORMAL, anomaly_map, mask)

    def compute(self, threshold: float | None = None, seconds_per_image: float | None = None) -> Evaluation:
        """All metrics of the images so far.

        Args:
            threshold: The model's image threshold; an image is called NG if its score is above it.
            seconds_per_image: Time measured by the caller, copied into the result.
        """
        if not self._scores:
            raise DataError("There is no image to evaluate. Give a test set with at least one image.")
        reasons: dict[str, str] = {}
        errors: dict[str, float] = {}
        image, image_roc = self._image_metrics(reasons)
        pixel, pixel_roc, pro = self._pixel_metrics(reasons, errors)
        return Evaluation(
            images=len(self._scores),
            **image,
            **pixel,
            **self._verdict_rates(threshold, reasons),
            by_type={name: self._type_metrics(name, threshold, errors) for name in self._defect_types()},
            seconds_per_image=seconds_per_image,
            reasons=reasons,
            errors=errors,
            image_scores=tuple(self._scores),
            image_labels=tuple(self._labels),
            defect_types=tuple(self._types),
            image_roc=image_roc,
            pixel_roc=pixel_roc,
            pro=pro,
        )

    def _image_metrics(self, reasons: dict[str, str]) -> tuple[dict[str, Any], Curve | None]:
        names = ("image_auroc", "image_ap", "image_f1_max")
        if len(set(self._labels)) < 2:
            reasons |= dict.fromkeys(names, self._one_class_reason())
            return dict.fromkeys(names), None
        counts = count(self._labels, self._scores)
        values = (counts.auroc(), counts.average_precision(), counts.f1_max().value)
        return dict(zip(names, values, strict=True)), counts.roc_curve().thinned()

    def _one_class_reason(self) -> str:
        if 1 in self._labels:
            return message("the test set has no normal image, and a ranking needs both kinds")
        return message("the test set has no anomalous image, and a ranking needs both kinds")

    def _pixel_metrics(
        self, reasons: dict[str, str], errors: dict[str, float]
    ) -> tuple[dict[str, Any], Curve | None, Curve | None]:
        names = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")
        table = self._pixels.table([_NORMAL, *self._defect_types()])
        reason = self._no_pixels_reason(table)
        if reason:
            reasons |= dict.fromkeys(names, reason)
            return dict.fromkeys(names), None, None
        counts = table.counts(self._pixels.dropped_bits)
        pro = table.overlap_curve()
        values = (
            counts.auroc(),
            counts.average_precision(),
            counts.f1_max().value,
            overlap.area_under(pro, AUPRO_LIMIT),
        )
        if self._pixels.dropped_bits:
            errors |= _ranking_errors(counts, pro)
        curves = counts.roc_curve().thinned(), overlap.cut(pro, AUPRO_LIMIT).thinned()
        return dict(zip(names, values, strict=True)), *curves

    def _no_pixels_reason(self, table: ScoreTable) -> str | None:
        """The reason why pixel metrics cannot be computed; None if they can."""
        unmasked = self._unmasked.total()
        if unmasked:
            total = sum(self._labels)
            return message("{count} of {total} anomalous images have no mask", count=unmasked, total=total)
        if not table.positives.any():
            return message("no pixel of the test set is marked as defective")
        if not table.negatives.any():
            return message("every pixel of the test set is marked as defective")
        return None

    def _verdict_rates(self, threshold: float | None, reasons: dict[str, str]) -> dict[str, Any]:
        scores, labels = np.array(self._scores), np.array(self._labels)
        rates: dict[str, float | None] = {"false_alarm_rate": None, "miss_rate": None}
        if threshold is None:
            reasons |= dict.fromkeys(rates, message("no image threshold was given"))
            return rates
        for name, label, wrong in (
            ("false_alarm_rate", 0, scores > threshold),
            ("miss_rate", 1, scores <= threshold),
        ):
            if (labels == label).any():
                rates[name] = float(wrong[labels == label].mean())
            else:
                reasons[name] = message(
                    "the test set has no anomalous image" if label else "the test set has no normal image"
                )
        return rates

    def _defect_types(self) -> list[str]:
        return sorted({name for name, label in zip(self._types, self._labels, strict=True) if label})

    def _type_metrics(
        self, name: str, threshold: float | None, errors: dict[str, float]
    ) -> dict[str, float | None]:
        scores, labels = np.array(self._scores), np.array(self._labels)
        mine = (labels == 1) & (np.array(self._types) == name)
        row: dict[str, float | None] = {"images": int(mine.sum())}
        row |= dict.fromkeys(("image_auroc", "pixel_auroc", "aupro", "miss_rate"))
        if (labels == 0).any():
            chosen = mine | (labels == 0)
            row["image_auroc"] = count(labels[chosen], scores[chosen]).auroc()
        if threshold is not None:
            row["miss_rate"] = float((scores[mine] <= threshold).mean())
        table = self._pixels.table([_NORMAL, name])
        if not self._unmasked[name] and table.positives.any() and table.negatives.any():
            counts, pro = table.counts(self._pixels.dropped_bits), table.overlap_curve()
            row["pixel_auroc"] = counts.auroc()
            row["aupro"] = overlap.area_under(pro, AUPRO_LIMIT)
            if self._pixels.dropped_bits:
                errors[f"{name}.pixel_auroc"] = bounds.auroc_error(counts)
                errors[f"{name}.aupro"] = bounds.aupro_error(pro, AUPRO_LIMIT)
        return row


def _ranking_errors(counts: Counts, pro: Curve) -> dict[str, float]:
    return {
        "pixel_auroc": bounds.auroc_error(counts),
        "pixel_ap": bounds.average_precision_error(counts),
        "pixel_f1_max": bounds.f1_max_error(counts),
        "aupro": bounds.aupro_error(pro, AUPRO_LIMIT),
    }
