"""`blemish certify`: prove that a model misses few defects."""

import json
from pathlib import Path

import click

from blemish.cli.options import device_option, json_option, require_finite

NOT_PROVED = 3
"""Exit code: the promised miss rate was not proved."""

EXAMPLES = """\b
blemish certify bottle.blemish --good good/ --defects defects/ --miss-rate 0.02
"""
FILES = click.Path(path_type=Path)


@click.command("certify", short_help="Prove a miss rate with defective images.", epilog=EXAMPLES)
@click.argument("model", type=FILES)
@click.option(
    "--good",
    multiple=True,
    required=True,
    type=FILES,
    help="Normal images, not learned from: files or folders.",
)
@click.option(
    "--defects", multiple=True, required=True, type=FILES, help="Defective images: files or folders."
)
@click.option(
    "--miss-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=require_finite,
    default=0.02,
    show_default=True,
    help="Share of defective parts that may be OK.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=require_finite,
    default=0.95,
    show_default=True,
    help="Of all statements.",
)
@click.option(
    "--group-by",
    default="none",
    show_default=True,
    metavar="none|folder|REGEX",
    help="Which images are of one part, lot or run, and so count for less.",
)
@click.option("--keep-thresholds", is_flag=True, help="Test the thresholds as they are.")
@json_option
@device_option
def command(
    model: Path,
    good: tuple[Path, ...],
    defects: tuple[Path, ...],
    miss_rate: float,
    confidence: float,
    group_by: str,
    keep_thresholds: bool,
    as_json: bool,
    device: str,
) -> None:
    """Prove that MODEL misses few defects, and store the certificate in it.

    Lowers the review threshold as far as the promise takes, so that an image that is not clearly good is for review.
    Any later change of thresholds, rules or weights voids the certificate. Exit code 3: the promise is not proved.
    """
    from blemish.data.find import find_images
    from blemish.progress import progress_bars
    from blemish.workflow.certify import certify

    with progress_bars() as progress:
        certificate = certify(
            model,
            list(find_images(good)),
            list(find_images(defects)),
            miss_rate=miss_rate,
            confidence=confidence,
            group_by=group_by,
            keep_thresholds=keep_thresholds,
            device=device,
            progress=progress,
        )
    values = certificate.to_dict() | {"holds": certificate.holds}
    click.echo(json.dumps(values) if as_json else certificate.describe())
    if not certificate.holds:
        click.get_current_context().exit(NOT_PROVED)
