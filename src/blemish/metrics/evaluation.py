"""The result of an evaluation: metrics, the reasons for absent ones, and the curves of a report."""

import csv
import html
import io
import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blemish.files import write_whole
from blemish.messages import columns, lines, message, pad
from blemish.metrics.ranking import Curve
from blemish.metrics.shift import Shift
from blemish.names import printable

NUMBERS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
    "false_alarm_rate",
    "miss_rate",
)
BY_TYPE = ("images", "image_auroc", "pixel_auroc", "aupro", "miss_rate")
"""Numbers of each defect type."""


CSV_COLUMNS = ("path", "label", "defect_type", "score", "threshold", "verdict")


class Missed(NamedTuple):
    """An anomalous image that is called OK."""

    path: Path
    defect_type: str
    score: float


class ZeroMisses(NamedTuple):
    """An image threshold at which every anomalous image of the test set is NG."""

    threshold: float
    """The largest number of four digits that is below all their scores."""
    false_alarm_rate: float
    """Share of the test set's normal images that are NG at this threshold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """Metrics of a model on a test set. A metric that cannot be computed is None, and `reasons` says why."""

    images: int
    image_auroc: float | None
    image_ap: float | None
    image_f1_max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1_max: float | None
    aupro: float | None
    """Area under the region-overlap curve up to a false-positive rate of 0.3, divided by 0.3."""
    false_alarm_rate: float | None
    """Share of normal images whose score is above the model's image threshold."""
    miss_rate: float | None
    """Share of anomalous images whose score is not above the model's image threshold."""
    by_type: dict[str, dict[str, float | None]]
    """Per defect type: images, image_auroc, pixel_auroc, aupro, miss_rate; all but the first and the last are
    computed from that type's images together with all normal images."""
    seconds_per_image: float | None
    reasons: dict[str, str]
    """Name of each absent number → reason."""
    errors: dict[str, float]
    """Name of each inexact pixel metric, such as `aupro` or `crack.aupro` → bound of its error; empty if all are
    exact."""
    image_scores: tuple[float, ...]
    """In the order of the images, as are the next two."""
    image_labels: tuple[int, ...]
    defect_types: tuple[str, ...]
    image_roc: Curve | None
    """True-positive rate (y) against false-positive rate (x), at most 500 points, as are the next two."""
    pixel_roc: Curve | None
    pro: Curve | None
    """Mean share of each region above the threshold (y) against the false-positive rate (x) up to 0.3."""
    threshold: float | None = None
    """The model's image threshold."""
    paths: tuple[Path, ...] = ()
    """The images' files."""
    report: Path | None = None
    """HTML file of the report, if one was written."""
    shift: Shift | None = None
    """Comparison of the normal images' scores with those that the thresholds rest on; None if there are too few."""

    @property
    def missed(self) -> tuple[Missed, ...]:
        """The anomalous images whose score is not above the image threshold, lowest score first."""
        if self.threshold is None:
            return ()
        rows = zip(self.paths, self.defect_types, self.image_scores, self.image_labels, strict=True)
        found = [
            Missed(path, kind, score)
            for path, kind, score, label in rows
            if label and score <= self.threshold
        ]
        return tuple(sorted(found, key=lambda image: image.score))

    @property
    def zero_misses(self) -> ZeroMisses | None:
        """What it costs to miss none of these anomalous images; None unless there are normal ones, too."""
        scores, labels = np.asarray(self.image_scores), np.asarray(self.image_labels)
        if len(set(self.image_labels)) < 2:
            return None
        threshold = _rounded_below(float(scores[labels == 1].min()))
        return ZeroMisses(threshold, float((scores[labels == 0] > threshold).mean()))

    def write_csv(self, path: Path | str) -> None:
        """Write a row for each image, in their order: path, label (1 anomalous), defect type, score and verdict.

        The file appears whole or not at all, in UTF-8 with the mark that spreadsheets need.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(CSV_COLUMNS)
        threshold = math.inf if self.threshold is None else self.threshold
        for name, label, defect_type, score in zip(
            self.paths, self.image_labels, self.defect_types, self.image_scores, strict=True
        ):
            verdict = "NG" if score > threshold else "OK"
            writer.writerow([printable(name), label, defect_type, repr(score), repr(threshold), verdict])
        write_whole(Path(path), text.getvalue().encode("utf-8-sig"))

    def to_dict(self) -> dict[str, Any]:
        """The numbers without scores and curves, as values that JSON can hold; absent ones are None."""
        result: dict[str, Any] = {"images": self.images}
        result |= {name: getattr(self, name) for name in NUMBERS}
        result |= {"by_type": self.by_type, "seconds_per_image": self.seconds_per_image}
        result["zero_misses"] = None if self.zero_misses is None else self.zero_misses._asdict()
        result["missed"] = [image._asdict() | {"path": printable(image.path)} for image in self.missed]
        result["shift"] = None if self.shift is None else self.shift._asdict()
        result |= {"reasons": self.reasons} if self.reasons else {}
        return result | ({"errors": self.errors} if self.errors else {})

    def table(self) -> str:
        """A row for each defect type, as text; empty if there is none."""
        if not self.by_type:
            return ""
        rows = self._rows()
        widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
        return "\n".join(
            pad(row[0], widths[0])
            + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
            for row in rows
        )

    def __str__(self) -> str:
        """The numbers, a row for each defect type, and notes on precision and time."""
        numbers = lines(f"{pad(name, 17)} {text}" for name, text in self._numbers())
        return "\n\n".join(part for part in (numbers, self.table(), *self._notes()) if part)

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in NUMBERS}
        known = "".join(f", {name}={value:.4f}" for name, value in values.items() if value is not None)
        return f"Evaluation(images={self.images}{known})"

    def _repr_html_(self) -> str:
        """HTML for a notebook: the report if one was written, else the numbers and the defect types."""
        if self.report is not None and self.report.is_file():
            page = html.escape(self.report.read_text("utf-8"))
            return f'<iframe sandbox srcdoc="{page}" style="width:100%; height:640px; border:0"></iframe>'
        tables = [self._numbers(), self._rows()] if self.by_type else [self._numbers()]
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return "<div>" + "".join(map(_html_table, tables)) + notes + "</div>"

    def _numbers(self) -> list[tuple[str, ...]]:
        """Name and value of each number, or the reason for its absence."""
        values = {name: getattr(self, name) for name in NUMBERS}
        rows = [(n, f"– {self.reasons[n]}" if v is None else f"{v:.4f}") for n, v in values.items()]
        defects = sum(self.image_labels)
        counted = message(
            "{count} ({normal} normal, {defects} anomalous)",
            count=self.images,
            normal=self.images - defects,
            defects=defects,
        )
        return [(message("images"), counted), *rows]

    def _rows(self) -> list[tuple[str, ...]]:
        """A header row, and a row for each defect type."""
        rows: list[tuple[str, ...]] = [(message("defect type"), message("images"), *BY_TYPE[1:])]
        for name, row in self.by_type.items():
            cells = ("–" if row[key] is None else f"{row[key]:.4f}" for key in BY_TYPE[1:])
            rows.append((name, str(row["images"]), *cells))
        return rows

    def _notes(self) -> list[str]:
        notes: list[str] = []
        if self.shift is not None and self.shift.is_clear:
            notes.append(str(self.shift))
        if self.zero_misses is not None:
            threshold, rate = self.zero_misses
            notes.append(
                message(
                    "No defect of these images is missed at the image threshold {threshold:.4g}, "
                    "with {rate:.1f} % false alarms.",
                    threshold=threshold,
                    rate=100 * rate,
                )
            )
        if self.missed:
            names = [
                message("{path} ({kind}, score {score:.4g})", path=path, kind=kind, score=score)
                for path, kind, score in self.missed
            ]
            notes.append(lines([message("Missed defects:"), *names]))
        if self.errors:
            notes.append(
                message(
                    "Pixel scores were binned to save memory: pixel metrics differ by at most {bound:.1e} from "
                    "exact ones.",
                    bound=max(self.errors.values()),
                )
            )
        if self.seconds_per_image is not None:
            notes.append(
                message("{seconds:.4f} s per image, without reading the file", seconds=self.seconds_per_image)
            )
        return notes


def _rounded_below(value: float) -> float:
    """The largest number of four significant digits below a value, so that printing it loses nothing."""
    context = Context(prec=4, rounding=ROUND_FLOOR, Emin=-300)
    rounded = Decimal(value).normalize(context)
    while float(rounded) >= value:
        rounded = rounded.next_minus(context)
    return float(rounded)


def _html_table(rows: list[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
