"""The record of an evaluation: numbers, the reasons for absent ones, and the curves a report draws."""

from dataclasses import dataclass, field
from typing import Any

from blemish.metrics.ranking import Curve

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
    """Share of the normal images whose score is above the model's image threshold."""
    miss_rate: float | None
    """Share of the anomalous images whose score is not above it."""
    by_type: dict[str, dict[str, float | None]]
    """Per defect type: images, image_auroc, pixel_auroc, aupro, miss_rate; all but the first and the last
    are of that type's images together with all normal images."""
    seconds_per_image: float | None
    reasons: dict[str, str]
    """For each absent number, under its name, why."""
    errors: dict[str, float]
    """Empty when pixel metrics are exact; otherwise, under `aupro` or `crack.aupro`, how far each may be
    off."""
    image_scores: tuple[float, ...] = field(repr=False)
    """In the order the images came, as are the next two."""
    image_labels: tuple[int, ...] = field(repr=False)
    defect_types: tuple[str, ...] = field(repr=False)
    image_roc: Curve | None = field(repr=False)
    """False-positive rate against true-positive rate, at most 500 points, as are the next two."""
    pixel_roc: Curve | None = field(repr=False)
    pro: Curve | None = field(repr=False)
    """False-positive rate up to 0.3 against the mean share of a region that is found."""

    def to_dict(self) -> dict[str, Any]:
        """The numbers without scores and curves, ready for JSON; absent ones are None."""
        result: dict[str, Any] = {"images": self.images}
        result |= {name: getattr(self, name) for name in NUMBERS}
        result |= {"by_type": self.by_type, "seconds_per_image": self.seconds_per_image}
        result |= {"reasons": self.reasons} if self.reasons else {}
        return result | ({"errors": self.errors} if self.errors else {})

    def __str__(self) -> str:
        lines = [f"images            {self.images}"]
        for name in NUMBERS:
            value = getattr(self, name)
            lines.append(f"{name:<17} {f'{value:.4f}' if value is not None else f'– {self.reasons[name]}'}")
        return "\n".join(lines)
