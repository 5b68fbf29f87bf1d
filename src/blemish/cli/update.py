"""`blemish update`: adds normal images to a model, or removes a defect that it learned as normal."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import device_option
from blemish.messages import lines, message

if TYPE_CHECKING:
    from blemish.workflow.update import Box

EXAMPLES = """\b
blemish update bottle.blemish cleared/ --accept-ng
blemish update bottle.blemish --remove-like missed.png --box 310,120,40,25
"""


def to_box(_: click.Context, param: click.Parameter, value: str | None) -> "Box | None":
    """Callback: "310,120,40,25" is left, top, width and height."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() and len(part) < 20 for part in parts):
        raise click.BadParameter(
            message(
                "{value!r} is not a box. Write left,top,width,height in pixels, such as 310,120,40,25.",
                value=value,
            ),
            param=param,
        )
    left, top, width, height = (int(part) for part in parts)
    return left, top, width, height


@click.command("update", short_help="Learn more normal images, or forget a defect.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@click.option(
    "--remove-like",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="Image of a missed defect, whose features are removed from the model.",
)
@click.option(
    "--box",
    metavar="X,Y,W,H",
    callback=to_box,
    help="Position of the defect in that image: left, top, width and height in pixels; default the position of "
    "the highest score.",
)
@click.option("--accept-ng", is_flag=True, help="Also learn images that are NG by the present model.")
@click.option("--undo", "reverts", is_flag=True, help="Return to the model before its latest update.")
@device_option
def command(
    model: Path,
    paths: tuple[Path, ...],
    remove_like: Path | None,
    box: "Box | None",
    accept_ng: bool,
    reverts: bool,
    device: str,
) -> None:
    """Add the normal images of each PATH to MODEL in seconds, without the earlier training images.

    Each PATH is an image, or a folder that is searched with its subfolders. Nothing is learned if some of the
    images are NG by the present model, unless --accept-ng says that they are normal. With --remove-like, the model
    forgets a defect that it learned as normal, and the training images that contain it are listed.

    The version before the update is kept; --undo makes it the present one, a second --undo reverts that.
    """
    from blemish.data.find import find_images
    from blemish.manifest import GRAPH, read_manifest
    from blemish.model import load
    from blemish.model_folder import undo
    from blemish.progress import progress_bars
    from blemish.workflow.update import remove_like as forget_defect
    from blemish.workflow.update import update

    if reverts:
        if paths or remove_like is not None or box is not None or accept_ng:
            raise click.UsageError(message("--undo takes no images and no other option. Give it alone."))
        before = read_manifest(model)
        now = undo(model)
        returned = len(now.history.updates) < len(before.history.updates)
        text = message(
            "Undone: the model before its latest update, learned from {count} images."
            if returned
            else "The undo was undone: the model after its latest update, learned from {count} images.",
            count=now.data.learned_from,
        )
        click.echo(lines([text, now.calibration.describe(), message("Model: {model}", model=model)]))
        return
    if not paths and remove_like is None:
        raise click.UsageError(
            message("Nothing to do. Give normal images, a missed defect with --remove-like, or --undo.")
        )
    if box is not None and remove_like is None:
        raise click.UsageError(
            message("--box is the position of the defect of --remove-like. Give both or neither.")
        )
    loaded = load(model, device=device)
    done = []
    if remove_like is not None:
        done.append(forget_defect(loaded, remove_like, box).summary())
    if paths:
        images = list(find_images(paths))
        with progress_bars() as progress:
            done.append(update(loaded, images, accept_ng=accept_ng, progress=progress).summary())
    loaded.save(model, onnx=GRAPH in loaded.manifest.files)
    click.echo(lines([*done, message("Model: {model}", model=model)]))
