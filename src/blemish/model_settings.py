"""Changes what decides the verdicts of a saved model, its thresholds and rules; the weights are not touched."""

from collections.abc import Callable
from pathlib import Path

from blemish.manifest import FORMAT, Manifest, read_manifest, write_manifest
from blemish.manifest_upgrade import require_current_weights
from blemish.messages import message
from blemish.model_folder import changing
from blemish.rules import Rules


def recalibrate(
    folder: Path | str,
    *,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    review_share: float | None = None,
    image: float | None = None,
    pixel: float | None = None,
) -> Manifest:
    """Change a saved model's thresholds; the weights are not touched.

    Args:
        folder: The model.
        false_alarm_rate: Share of normal images that may be called NG; sets both thresholds.
        confidence: With which the share is kept, instead of in expectation.
        review_share: Share of normal images that is for review or NG: the review threshold; 0: no review.
        image: The image threshold, set by hand.
        pixel: The pixel threshold, set by hand.

    Raises:
        ModelError: If the folder is not a valid model.
        ValueError: If a value is out of range, there are too few images for the confidence, or it comes without a rate.
    """

    def change(manifest: Manifest) -> Manifest:
        calibration = manifest.calibration
        if confidence is not None and false_alarm_rate is None:
            raise ValueError(message("A confidence needs a false-alarm rate. Give both."))
        if false_alarm_rate is not None:
            calibration = calibration.with_false_alarm_rate(false_alarm_rate, confidence)
        if review_share is not None:
            calibration = calibration.with_review_share(review_share)
        return manifest.changed(calibration=calibration.with_thresholds(image=image, pixel=pixel))

    return change_manifest(Path(folder), change)


def set_rules(folder: Path | str, rules: Rules | None) -> Manifest:
    """Let a saved model judge by rules; None: by its score alone.

    Raises:
        ModelError: If the folder is not a valid model.
    """
    return change_manifest(Path(folder), lambda manifest: manifest.changed(rules=rules))


def change_manifest(
    folder: Path, change: Callable[[Manifest], Manifest], expected: Manifest | None = None
) -> Manifest:
    """Replace a model's manifest by what `change` makes of it.

    Raises:
        ModelError: If the folder is not a valid model, or its manifest is not the expected one.
    """
    require_current_weights(folder, read_manifest(folder).format)
    with changing(folder, expected):
        manifest = change(read_manifest(folder)).changed(format=FORMAT)
        write_manifest(manifest, folder)
    return manifest
