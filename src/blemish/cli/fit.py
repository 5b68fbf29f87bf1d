"""`blemish fit`: fit a model to normal images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blemish.cli.fit_data import auxiliary_samples, chosen_preprocess, require_one_split, to_group_by
from blemish.cli.fit_output import require_output, training_log, unfinished_state
from blemish.cli.options import (
    backbone_option,
    data_options,
    device_option,
    exclude_option,
    false_alarm_rate_type,
    require_finite,
    seed_option,
    share_type,
    to_arguments,
    to_cache,
    to_excluded,
    to_pixels,
    to_size_or_auto,
    with_backbone,
)
from blemish.messages import message

if TYPE_CHECKING:
    from blemish.data.dataset import Dataset
    from blemish.methods.base import Method

EXAMPLES = """\b
blemish fit patchcore bottle/ -o bottle.blemish
blemish fit padim parts.csv -o part.blemish --backbone resnet18 --set layers=1,2,3 --image-size 320
"""


@click.command("fit", short_help="Fit a model to normal images.", epilog=EXAMPLES)
@click.argument("method")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="Folder of the model; an older model there is replaced.",
)
@data_options
@click.option("--preset", metavar="NAME", help="Named configuration of the method, e.g. paper.")
@backbone_option
@click.option(
    "--set",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    callback=to_arguments,
    help="Argument of the method, can be repeated: a number, true, false, null, a list such as 2,3 or text. "
    "It overrides the preset's.",
)
@click.option(
    "--image-size",
    metavar="auto|N|HxW",
    callback=to_size_or_auto,
    help="Size of the network's input: N × N, height × width, or auto, the images' aspect ratio at --pixels; "
    "overrides the preset's size and crop.  [default: that of the preset, or else auto]",
)
@click.option(
    "--pixels",
    metavar="N|HxW",
    callback=to_pixels,
    help="Number of pixels of the input of --image-size auto: N × N or H × W. More show smaller defects and take "
    "more time and memory.  [default: 256]",
)
@click.option(
    "--resize",
    type=click.Choice(["squash", "fit"]),
    help="squash stretches images to the size, fit keeps the aspect ratio and pads.  [default: squash]",
)
@click.option(
    "--false-alarm-rate",
    type=false_alarm_rate_type,
    default=0.01,
    show_default=True,
    callback=require_finite,
    metavar="SHARE",
    help="Share of normal images that may be called NG.",
)
@click.option(
    "--ignore",
    metavar="MASK",
    type=click.Path(path_type=Path),
    help="Image of the size of the images, white where nothing counts: it is neither learned nor scored.",
)
@click.option(
    "--group-by",
    metavar="RULE",
    default="found",
    show_default=True,
    help="Which images are of one part, lot or run, and stay together when thresholds are set: found looks for "
    "near-copies and runs, folder takes those of one folder, none each image by itself; a column of a csv file, or a "
    "regular expression whose first parentheses match what names the group in the path.",
)
@click.option(
    "--calibrate",
    type=click.Choice(["auto", "cross", "hold-out"]),
    default="auto",
    show_default=True,
    help="What thresholds rest on: cross learns from all normal images and scores each by a model without its group, "
    "hold-out scores images that are not learned from. auto is cross for methods that can leave images out or do not "
    "train.",
)
@click.option(
    "--hold-out",
    "hold_out_share",
    type=share_type,
    callback=require_finite,
    metavar="SHARE",
    help="Share of the normal images that is held out to set the thresholds; implies --calibrate hold-out.  "
    "[default: 0.1]",
)
@click.option(
    "--shots",
    type=click.IntRange(1),
    metavar="N",
    help="Learn from N of the normal images only, drawn by the seed; those of other groups set the thresholds.",
)
@seed_option
@exclude_option
@device_option
@click.option("--skip-unreadable", is_flag=True, help="Skip images that cannot be read, and count them.")
@click.option(
    "--auxiliary",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Images of other things than the product, for methods that use them (see `blemish methods`); a data set, "
    "can be repeated.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue interrupted training; the weights equal those of uninterrupted training.",
)
@click.option(
    "--log",
    type=click.Choice(["csv", "tensorboard"]),
    help="Write the losses of every epoch to the folder MODEL.log.",
)
@click.option(
    "--cache",
    metavar="GIB,GIB",
    default="2,20",
    show_default=True,
    callback=to_cache,
    help="Maximum memory and temporary disk space for features that are computed once instead of in every epoch.",
)
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a report on the normal images: their scores, and those that look defective.",
)
@click.option("--onnx", is_flag=True, help="Write a graph for ONNX Runtime beside the weights.")
def command(
    method: str,
    data: Path,
    output: Path,
    layout: str | None,
    category: str | None,
    preset: str | None,
    backbone: str | None,
    arguments: dict[str, Any],
    image_size: tuple[int, int] | Literal["auto"] | None,
    pixels: int | None,
    resize: Any,
    ignore: Path | None,
    group_by: str,
    exclude: Path | None,
    auxiliary: tuple[Path, ...],
    resume: bool,
    log: str | None,
    onnx: bool,
    **same: Any,
) -> None:
    """Fit METHOD to the normal images in DATA and save the model.

    METHOD is one of those that `blemish methods` lists. DATA is a folder of normal images, a data set with
    train and test folders, or a csv file; test images are not learned from.
    """
    from blemish.data.dataset import open_dataset
    from blemish.progress import progress_bars
    from blemish.workflow.fit import fit
    from blemish.workflow.forecast import Forecast

    require_one_split(same["shots"], same["hold_out_share"], same["calibrate"])
    require_output(output)
    dataset = open_dataset(data, layout=layout, category=category)
    learner = _learner(method, preset, with_backbone(arguments, backbone), onnx)
    preprocess = chosen_preprocess(method, preset, dataset.train, image_size, pixels, resize)
    if forecast := str(Forecast.of(learner, dataset.train, preprocess)):
        click.echo(forecast)
    with (
        unfinished_state(output) as unfinished,
        progress_bars() as progress,
        training_log(log, output, resume) as watch,
    ):
        model = fit(
            learner,
            dataset.train,
            preprocess=preprocess,
            ignore=ignore,
            test=dataset.test,
            exclude=to_excluded(exclude, data),
            group_by=to_group_by(group_by, data),
            auxiliary=auxiliary_samples(auxiliary),
            checkpoint=unfinished,
            resume=resume,
            watch=watch,
            progress=progress,
            **same,  # options of the same names
        )
        model.save(output)
    click.echo(model.summary())
    if not dataset.has_split:
        click.echo(_left_for_evaluation(dataset))
    click.echo(message("Model: {model}", model=output))
    if onnx:  # after the model is there and named, so that a failure costs no more than the graph
        model.save(output, onnx=True)


def _left_for_evaluation(dataset: "Dataset") -> str:
    test = sum(not sample.label for sample in dataset.test)
    return message(
        "{test} of {count} normal images, every fifth one, are left for evaluation.",
        test=test,
        count=test + len(dataset.train),
    )


def _learner(method: str, preset: str | None, arguments: dict[str, Any], onnx: bool) -> "Method":
    """The method that learns, after a check that it can be exported if that is asked for."""
    from blemish.plugins import create_method

    learner = create_method(method, preset=preset, arguments=arguments)
    if onnx:
        from blemish.runtimes.export import require_exportable

        require_exportable(learner)
    return learner
