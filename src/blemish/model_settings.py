"""Changes what decides the verdicts of a saved model, its thresholds and rules; the weights are not touched."""

from collections.abc import Callable
from pathlib import Path

from blemish.manifest import FORMAT, Manifest, read_manifest, write_manifest
from blemish.manifest_upgrade import require_current_weights
from blemish.model_folder import changing
from blemish.rules import Rules


def recalibrate(
    folder: Path | str,
    *,
    false_alarm_rate: float | None = None,
    image: float | None = None,
    pixel: float | None = None,
) -> Manifest:
    """Change a saved model's thresholds; the weights are not touched.

    Args:
        folder: The model.
        false_alarm_rate: Share of normal images that may be called NG; sets both thresholds.
        image: The image threshold, set by hand.
        pixel: The pixel threshold, set by hand.

    Raises:
        ModelError: If the folder is not a valid model.
        ValueError: If a value is out of range.
    """

    def change(manifest: Manifest) -> Manifest:
        calibration = manifest.calibration
        if false_alarm_rate is not None:
            calibration = calibration.with_false_alarm_rate(false_alarm_rate)
        return manifest.changed(calibration=calibration.with_thresholds(image=image, pixel=pixel))

    return _change(Path(folder), change)


def set_rules(folder: Path | str, rules: Rules | None) -> Manifest:
    """Let a saved model judge by rules; None: by its score alone.

    Raises:
        ModelError: If the folder is not a valid model.
    """
    return _change(Path(folder), lambda manifest: manifest.changed(rules=rules))


def _change(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Replace a model's manifest by what `change` makes of it."""
    require_current_weights(folder, read_manifest(folder).format)
    with changing(folder):
        manifest = change(read_manifest(folder)).changed(format=FORMAT)
        write_manifest(manifest, folder)
    return manifest
