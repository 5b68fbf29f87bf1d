"""`blemish calibrate`: change the thresholds of a saved model."""

from pathlib import Path

import click

from blemish.cli.options import false_alarm_rate_type, require_finite
from blemish.messages import message

EXAMPLES = """\b
blemish calibrate bottle.blemish --false-alarm-rate 0.05
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
    model: Path, false_alarm_rate: float | None, image_threshold: float | None, pixel_threshold: float | None
) -> None:
    """Change the thresholds of MODEL; its weights stay as they are."""
    from blemish.model_settings import recalibrate

    options = {"false_alarm_rate": false_alarm_rate, "image": image_threshold, "pixel": pixel_threshold}
    changes = {name: value for name, value in options.items() if value is not None}
    if not changes:
        raise click.UsageError(
            message("Nothing to change. Give --false-alarm-rate, --image-threshold or --pixel-threshold.")
        )
    click.echo(recalibrate(model, **changes).calibration.describe())
