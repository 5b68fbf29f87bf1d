"""`blemish update`: a model learns more good images, or forgets a defect that it learned as good."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import device_option, require_device

if TYPE_CHECKING:
    from blemish.model import Model
    from blemish.updating import Box, Removal

EXAMPLES = """\b
blemish update bottle.blemish cleared/
blemish update bottle.blemish --remove-like missed.png --box 310,120,40,25
"""


def to_box(_: click.Context, param: click.Parameter, value: str | None) -> "Box | None":
    """Callback: "310,120,40,25" is left, top, width and height."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(
            f"{value!r} is not a box. Write left,top,width,height in pixels, such as 310,120,40,25.",
            param=param,
        )
    left, top, width, height = (int(part) for part in parts)
    return left, top, width, height


@click.command("update", short_help="Learn more good images, or forget a defect.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@click.option(
    "--remove-like",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="A picture of a missed defect: what was learned of it is taken out again.",
)
@click.option(
    "--box",
    metavar="X,Y,W,H",
    callback=to_box,
    help="Where the defect is in that picture: left, top, width and height in pixels; unless given, where it "
    "scores highest.",
)
@device_option
def command(
    model: Path, paths: tuple[Path, ...], remove_like: Path | None, box: "Box | None", device: str
) -> None:
    """Let MODEL learn the good images of each PATH too, in seconds; the old images are not needed.

    Each PATH is an image, or a folder searched with its subfolders. With --remove-like, the model forgets what
    lets a defect pass for good, and the training images that showed it are listed.
    """
    from blemish.cli.inspect import find_images
    from blemish.cli.progress import shown_progress
    from blemish.manifest import GRAPH
    from blemish.model import load
    from blemish.updating import remove_like as take_out
    from blemish.updating import update

    if not paths and remove_like is None:
        raise click.UsageError("Nothing to do. Give good images, or a missed defect with --remove-like.")
    if box is not None and remove_like is None:
        raise click.UsageError("--box says where the defect of --remove-like is. Give both or neither.")
    require_device(device)
    loaded = load(model, device=device)
    if remove_like is not None:
        removal = take_out(loaded, remove_like, box)
        _show(removal)
    if paths:
        images = list(find_images(paths))
        with shown_progress() as progress:
            update(loaded, images, progress=progress)
        click.echo(_summary(loaded, len(images)))
    loaded.save(model, onnx=GRAPH in loaded.manifest.files)
    click.echo(f"Model: {model}")


def _summary(model: "Model", images: int) -> str:
    calibration = model.calibration
    seconds = model.manifest.history.updates[-1].seconds
    return (
        f"Learned {images} more images in {seconds:.1f} s.\n"
        f"Image threshold {calibration.image_threshold:.4g}, pixel threshold {calibration.pixel_threshold:.4g}.\n"
        f"{calibration.summary()}"
    )


def _show(removal: "Removal") -> None:
    """Which training images the forgotten patches were from, and what the defect scores now."""
    counts = Counter(name for name, _, _ in removal.origins)
    click.echo(f"Took out {len(removal.origins)} patches of {len(counts)} training images:")
    for name, count in counts.most_common():
        places = [f"({x:.0%}, {y:.0%})" for other, x, y in removal.origins if other == name]
        click.echo(
            f"  {name}: {count} at {', '.join(places[:5])}{' …' if count > 5 else ''} of width and height"
        )
    before, after = removal.before, removal.after
    click.echo(
        f"Score {before.score:.4g} → {after.score:.4g}, threshold {after.threshold:.4g}: "
        f"{before.verdict} → {after.verdict}."
    )
