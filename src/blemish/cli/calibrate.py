"""`blemish calibrate`: change the thresholds of a saved model."""

from pathlib import Path

import click

from blemish.cli.options import false_alarm_rate_type, require_finite
from blemish.messages import message

EXAMPLES = """\b
blemish calibrate bottle.blemish --false-alarm-rate 0.05
blemish calibrate bottle.blemish --review-share 0.1
blemish calibrate bottle.blemish --image-threshold 1.8
"""


@click.command("calibrate", short_help="Change a model's thresholds.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--false-alarm-rate",
    type=false_alarm_rate_type,
    callback=require_finite,
    metavar="SHARE",
    help="Share of normal images that may be called NG; sets both thresholds.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=require_finite,
    help="Keep that share with this confidence, such as 0.95, instead of in expectation; needs more images.",
)
@click.option(
    "--review-share",
    type=click.FloatRange(0, 1, max_open=True),
    callback=require_finite,
    metavar="SHARE",
    help="Share of normal images that people can look at: the highest scores up to NG become REVIEW. 0: no REVIEW.",
)
@click.option(
    "--image-threshold",
    type=float,
    callback=require_finite,
    metavar="SCORE",
    help="Image threshold set by hand: an image is NG if its score is above it.",
)
@click.option(
    "--pixel-threshold",
    type=float,
    callback=require_finite,
    metavar="SCORE",
    help="Pixel threshold set by hand: a pixel is defective if its anomaly-map value is above it.",
)
def command(
    model: Path,
    false_alarm_rate: float | None,
    confidence: float | None,
    review_share: float | None,
    image_threshold: float | None,
    pixel_threshold: float | None,
) -> None:
    """Change the thresholds of MODEL; its weights stay as they are."""
    from blemish.model_settings import recalibrate

    options = {
        "false_alarm_rate": false_alarm_rate,
        "confidence": confidence,
        "review_share": review_share,
        "image": image_threshold,
        "pixel": pixel_threshold,
    }
    changes = {name: value for name, value in options.items() if value is not None}
    if not changes:
        raise click.UsageError(
            message(
                "Nothing to change. Give --false-alarm-rate, --review-share, --image-threshold or --pixel-threshold."
            )
        )
    try:
        manifest = recalibrate(model, **changes)
    except ValueError as error:  # too few images for the confidence, or a confidence without a rate
        raise click.UsageError(str(error)) from error
    click.echo(manifest.calibration.describe())
