"""`blemish suspects`: finds training images that look defective or occur twice."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from blemish.cli.options import (
    backbone_option,
    data_options,
    device_option,
    json_option,
    require_finite,
    seed_option,
    share_type,
    to_arguments,
    to_size,
    with_backbone,
)
from blemish.cli.outputs import failure_of, require_separate
from blemish.messages import message

EXAMPLES = """\b
blemish suspects bottle/ -o suspects.html --write list.csv
blemish fit patchcore bottle/ -o bottle.blemish --exclude list.csv
"""


@click.command("suspects", short_help="Find defects and copies in training images.", epilog=EXAMPLES)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="Score the images with this model, those that it learned from without what it learned from them. "
    "[default: fit --method to parts of the images]",
)
@data_options
@click.option("--method", metavar="NAME", help="Method that scores the images.  [default: patchcore]")
@backbone_option
@click.option(
    "--set",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    callback=to_arguments,
    help="Argument of the method, can be repeated, as for fit.",
)
@click.option(
    "--image-size",
    metavar="N|HxW",
    callback=to_size,
    help="Size of the network's input.  [default: the images' aspect ratio at 256 × 256 pixels]",
)
@click.option(
    "--rate",
    type=share_type,
    default=0.1,
    show_default=True,
    callback=require_finite,
    metavar="SHARE",
    help="Rate of false discoveries: about the largest share of normal images among the suspected ones.",
)
@seed_option
@device_option
@json_option
@click.option(
    "-o",
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report with images, one HTML file that opens offline.",
)
@click.option(
    "--write",
    "table",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the suspected images, superfluous copies and unreadable files as csv, for `fit --exclude`; the file "
    "must not exist, because a list may have been edited.",
)
def command(
    data: Path,
    model: Path | None,
    layout: str | None,
    category: str | None,
    method: str | None,
    backbone: str | None,
    arguments: dict[str, Any],
    image_size: tuple[int, int] | None,
    rate: float,
    seed: int,
    device: str,
    as_json: bool,
    report: Path | None,
    table: Path | None,
) -> None:
    """Find images among the training images of DATA that look defective, occur twice or cannot be read.

    Each image is scored by a model that did not learn from it, and the highest scores are listed. Near-copies are
    re-encoded, resized and shifted images, and the same part photographed twice. Nothing is removed: look at the
    images, delete the rows of normal ones from the file of --write, and give it to `fit --exclude`.
    """
    from blemish.data.dataset import open_dataset
    from blemish.data.preprocess import Preprocess
    from blemish.files import require_writable_file
    from blemish.model import load
    from blemish.progress import progress_bars
    from blemish.workflow.suspects import suspects

    if model is not None and (method or backbone or arguments or image_size):
        raise click.UsageError(
            message("--model has its own method, arguments and input size. Leave out the options for them.")
        )
    arguments = with_backbone(arguments, backbone)
    dataset = open_dataset(data, layout=layout, category=category)
    require_separate({"--write": table, "--report": report}, dataset, model)
    if table is not None:
        _require_new(table)
        require_writable_file(table)
    with progress_bars() as progress:
        found = suspects(
            dataset.train,
            model=load(model, device=device) if model else None,
            method=method,
            arguments=arguments or None,
            preprocess=Preprocess(size=image_size) if image_size else None,
            rate=rate,
            seed=seed,
            device=device,
            report=report,
            progress=progress,
        )
    failure = None if table is None else failure_of(partial(found.write_csv, table))
    click.echo(json.dumps(found.to_dict()) if as_json else found)
    if found.report is not None and not as_json:
        click.echo(message("Report: {path}", path=found.report))
    if failure is not None:
        raise failure
    if table is not None and not as_json:
        click.echo(message("List: {path}", path=table))
    if found.report != report:  # a warning has said why it was not written
        click.get_current_context().exit(1)


def _require_new(table: Path) -> None:
    """Refuse to replace a file, because a person may have edited the list that it holds."""
    from blemish.files import is_replaceable

    if is_replaceable(table):
        raise click.UsageError(
            message(
                "{path} exists, and a list may have been edited by hand. Name another file for --write, or remove it.",
                path=table,
            )
        )
