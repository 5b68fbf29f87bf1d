"""What a model's manifest says to the user."""

import json
from typing import TYPE_CHECKING

from blemish.calibration import by_hand
from blemish.messages import lines, message, pad
from blemish.names import printable

if TYPE_CHECKING:
    from blemish.manifest import Manifest


def describe(manifest: "Manifest") -> str:
    """The entries as text, one line each."""
    data = manifest.data
    entries = [
        (message("method"), printable(manifest.method)),
        *(
            (f"  {printable(name)}", printable(json.dumps(value)))
            for name, value in manifest.arguments.items()
        ),
        (message("category"), printable(data.category) or "–"),
        (
            message("learned from"),
            message("{count} images (seed {seed})", count=data.learned_from, seed=manifest.seed),
        ),
        *([("", groups)] if (groups := data.describe_groups()) else []),
        (message("held out"), message("{count} images", count=data.held_out)),
        (message("skipped"), message("{count} unreadable images", count=data.skipped)),
        *([(message("excluded"), message("{count} images", count=data.excluded))] if data.excluded else []),
        (message("data"), message("fingerprint {digits}", digits=data.fingerprint[:16])),
        (message("input"), manifest.preprocess.describe()),
        *([] if manifest.resolution is None else [(message("resolution"), manifest.resolution.describe())]),
        *_policy(manifest),
        (message("files"), ", ".join(manifest.files)),
        (
            message("written by"),
            message("blemish {version}, format {format}", version=manifest.blemish, format=manifest.format),
        ),
    ]
    return lines(f"{pad(name, 17)} {value}" for name, value in entries)


def _policy(manifest: "Manifest") -> list[tuple[str, str]]:
    """What decides verdicts."""
    calibration = manifest.calibration
    review = calibration.review_threshold
    return [
        (
            message("image threshold"),
            f"{calibration.image_threshold:.6g}{by_hand(calibration.image_is_by_hand)}",
        ),
        (
            message("pixel threshold"),
            f"{calibration.pixel_threshold:.6g}{by_hand(calibration.pixel_is_by_hand)}",
        ),
        *([] if review is None else [(message("review threshold"), f"{review:.6g}")]),
        ("", calibration.summary()),
        *([] if manifest.rules is None else [(message("rules"), manifest.rules.describe())]),
        *(
            []
            if manifest.certificate is None
            else [(message("certificate"), manifest.certificate.describe_for(manifest.policy))]
        ),
    ]
