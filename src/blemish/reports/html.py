"""Renders an evaluation as one HTML file, which contains its styles, charts and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from blemish.files import write_whole
from blemish.inspection.heatmap import colour_bar
from blemish.inspection.thumbnail import data_uri, shrink_image, shrink_mask
from blemish.metrics.evaluation import ZeroMisses
from blemish.opencv import cv2
from blemish.reports import charts
from blemish.reports.gallery import THUMBNAIL, GalleryItem, NamedError
from blemish.types import Mask

MAX_IMAGES = 224
"""Maximum number of images in a report; with thumbnails of 320 pixels one takes about 40 kB."""

OVERLAP_LIMIT = 0.3
"""False-positive rate at which the region-overlap curve ends, that of AUPRO."""

LABELS = {
    "images": ("Images", "图像数"),
    "image_auroc": ("Image AUROC", "图像级"),
    "image_ap": ("Image average precision", "图像级"),
    "image_f1_max": ("Image best F1", "图像级"),
    "pixel_auroc": ("Pixel AUROC", "像素级"),
    "pixel_ap": ("Pixel average precision", "像素级"),
    "pixel_f1_max": ("Pixel best F1", "像素级"),
    "aupro": ("Region overlap (AUPRO)", "区域重叠"),
    "false_alarm_rate": ("False-alarm rate", "过杀率"),
    "miss_rate": ("Miss rate", "漏检率"),
    "seconds_per_image": ("Time per image", "单张耗时"),
}
"""Metric → its name in the report, in English and Chinese."""

LOSSES = {
    "loss": ("loss", "损失"),
    "held_out": ("loss on held-out normal images", "留出良品上的损失"),
}
"""Loss → its name in the report, in English and Chinese; other losses keep their methods' names."""

_SHORT = {"aupro": "AUPRO", "miss_rate": "Missed"}
_MASK_GROUND, _MASK_TRUE, _MASK_DEFECT = (244, 245, 247), (112, 122, 138), (196, 22, 110)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The content of a report."""

    title: str
    method: str
    category: str
    date: str
    """Date and time, for display."""
    arguments: Mapping[str, Any]
    """Arguments of the method and of its preprocessing."""
    dataset: Mapping[str, Any]
    """Name → value of facts such as the number of images."""
    metrics: Mapping[str, float | None]
    """In the report's order; None is absent."""
    reasons: Mapping[str, str]
    """Name of an absent metric → reason."""
    by_type: Mapping[str, Mapping[str, float | None]]
    """Defect type → name and value of each column."""
    scores: NDArray[np.floating] = field(repr=False)
    """(N,) raw scores of the test images."""
    labels: NDArray[np.integer] = field(repr=False)
    """(N,) 0 normal, 1 anomalous."""
    threshold: float
    """Image threshold: an image is NG if its score is above it."""
    roc: tuple[NDArray[np.floating], NDArray[np.floating]] | None = field(repr=False)
    """False-positive rates and true-positive rates of the images; None if a class is missing."""
    pro: tuple[NDArray[np.floating], NDArray[np.floating]] | None = field(repr=False)
    """False-positive rates and mean region overlaps of the pixels; None without masks."""
    calibration_text: str
    losses: object = field(repr=False)
    """As in the model's manifest, not checked: per epoch, name → mean loss."""
    gallery: Sequence[GalleryItem] = field(repr=False)
    """In the report's order; the first `MAX_IMAGES` are used."""
    environment: Mapping[str, str]
    """Name → version."""
    without_image: Mapping[str, Sequence[NamedError]] = field(default_factory=dict, repr=False)
    """Under "miss" and "false_alarm", the errors that the gallery leaves out, worst first."""
    zero_misses: ZeroMisses | None = None
    """What it costs to miss none of the test set's defects."""


def write_report(path: Path, report: ReportData) -> Path:
    """Write a report as HTML; the file appears whole or not at all.

    Args:
        path: The file; its folder must exist.
        report: The content.
    """
    # Python represents file names that are not valid Unicode by lone surrogates, which UTF-8 cannot encode.
    write_whole(path, _render(report).encode("utf-8", "replace"))
    return path


def template_environment() -> Environment:
    """The environment of all reports' templates; values are escaped."""
    return Environment(
        loader=PackageLoader("blemish.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(report: ReportData) -> str:
    columns = list(dict.fromkeys(name for row in report.by_type.values() for name in row))
    images = report.gallery[:MAX_IMAGES]
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            summary=_summarize(report),
            numbers=[_describe_metric(report, name) for name in report.metrics],
            columns=[(name, *_name_metric(name, short=True)) for name in columns],
            rows=[
                (defect_type, [(name, row.get(name), format_metric(name, row.get(name))) for name in columns])
                for defect_type, row in report.by_type.items()
            ],
            histogram=charts.draw_histogram(report.scores, report.labels, report.threshold),
            roc=None if report.roc is None else charts.draw_curve(*report.roc),
            pro=None if report.pro is None else charts.draw_curve(*report.pro, x_end=OVERLAP_LIMIT),
            losses=charts.draw_losses(report.losses),
            loss_names=LOSSES,
            groups=_group_gallery(images, report.without_image),
            colour_bar=data_uri(colour_bar(640, 20)),
            plot=charts,
        )
    )


def _summarize(report: ReportData) -> dict[str, Any]:
    labels, is_called = np.asarray(report.labels), np.asarray(report.scores) > report.threshold
    normal, defective = int((labels == 0).sum()), int((labels == 1).sum())
    return {
        "normal": normal,
        "defective": defective,
        "missed": int((~is_called[labels == 1]).sum()),
        "false_alarms": int(is_called[labels == 0].sum()),
        "headlines": [
            (*_name_metric(name, short=True), format_metric(name, report.metrics[name]))
            for name in ("image_auroc", "pixel_auroc", "aupro")
            if report.metrics.get(name) is not None
        ],
    }


def _describe_metric(report: ReportData, name: str) -> dict[str, str | None]:
    value = report.metrics[name]
    english, chinese = _name_metric(name)
    return {
        "english": english,
        "chinese": chinese,
        "value": format_metric(name, value),
        "reason": report.reasons.get(name, "not measured") if value is None else None,
    }


def _name_metric(name: str, *, short: bool = False) -> tuple[str, str]:
    english, chinese = LABELS.get(name, (name, ""))
    return (_SHORT.get(name, english) if short else english), chinese


def format_metric(name: str, value: float | None) -> str:
    """A metric as text: rates in per cent, times in milliseconds, others with four decimals."""
    if value is None or not math.isfinite(value):
        return "–"
    if name == "images":
        return f"{value:.0f}"
    if name.endswith("_rate"):
        return f"{100 * value:.1f} %"
    if name.startswith("seconds"):
        return f"{1000 * value:.1f} ms"
    return f"{value:.4f}"


def _group_gallery(
    items: Sequence[GalleryItem], without_image: Mapping[str, Sequence[NamedError]]
) -> list[dict[str, Any]]:
    """Misses, false alarms, detections and passed images, each with heading and entries; without empty groups."""
    groups = (
        ("Missed defects", "漏检", "Defective images called OK, lowest score first.", "miss"),
        ("False alarms", "过杀", "Normal images called NG, highest score first.", "alarm"),
        (
            "Typical detections",
            "典型检出",
            "Defective images called NG; a random sample of each type.",
            "hit",
        ),
        ("Passed", "合格", "Normal images called OK.", "pass"),
    )
    return [
        {
            "english": english,
            "chinese": chinese,
            "note": note,
            "others": without_image.get({"alarm": "false_alarm"}.get(kind, kind), ()),
            "entries": [
                {
                    "item": item,
                    "image": data_uri(shrink_image(item.image, THUMBNAIL)),
                    "overlay": data_uri(shrink_image(item.overlay, THUMBNAIL)),
                    "zoom": None if item.zoom is None else data_uri(item.zoom),
                    "mask": None if item.mask is None else data_uri(_draw_masks(item)),
                }
                for item in items
                if _kind(item) == kind
            ],
        }
        for english, chinese, note, kind in groups
        if any(_kind(item) == kind for item in items)
    ]


def _kind(item: GalleryItem) -> str:
    if item.is_miss:
        return "miss"
    if item.is_false_alarm:
        return "alarm"
    return "hit" if item.label else "pass"


def _draw_masks(item: GalleryItem) -> NDArray[np.uint8]:
    """The true mask filled and the defect mask outlined, on a light background."""
    defect_mask = shrink_mask(item.defect_mask, THUMBNAIL)
    image = np.full((*defect_mask.shape, 3), _MASK_GROUND, np.uint8)
    if item.mask is not None:
        true: Mask = shrink_mask(item.mask, THUMBNAIL)
        image[true] = _MASK_TRUE
    contours, _ = cv2.findContours(defect_mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, _MASK_DEFECT, 1)
    return image
