"""`blemish evaluate`: evaluate a model on labelled images."""

import json
from pathlib import Path

import click

from blemish.cli.options import data_options, json_option, overwriting, print_device, runtime_options
from blemish.messages import message

EXAMPLES = """\b
blemish evaluate bottle.blemish bottle/ --report bottle.html
blemish evaluate bottle.blemish bottle/ --json --csv scores.csv
"""


@click.command("evaluate", short_help="Evaluate a model on labelled images.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@json_option
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report, one HTML file that opens offline.",
)
@click.option(
    "--csv",
    "table",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a row for each image: path, label, defect type, score, threshold, verdict.",
)
@click.option(
    "--allow-blank-masks",
    is_flag=True,
    help="Evaluate even if masks of defective images mark no pixel; by default, that is an error.",
)
@runtime_options
def command(
    model: Path,
    data: Path,
    layout: str | None,
    category: str | None,
    as_json: bool,
    report: Path | None,
    table: Path | None,
    allow_blank_masks: bool,
    runtime: str,
    device: str,
) -> None:
    """Evaluate MODEL on the test images of DATA: ranking metrics of images and pixels, false-alarm and miss rate.

    Also names every missed defect, and says which image threshold misses none of them, with how many false alarms.
    """
    from blemish.data.dataset import open_dataset
    from blemish.files import require_writable_file
    from blemish.model import load
    from blemish.progress import progress_bars
    from blemish.workflow.evaluate import evaluate, images_to_evaluate

    dataset = open_dataset(data, layout=layout, category=category)
    loaded = load(model, runtime=runtime, device=device)
    print_device(loaded)
    _require_separate(table, report, data, model)
    if table is not None:
        require_writable_file(table)
    samples = images_to_evaluate(loaded, dataset)
    with progress_bars() as progress:
        evaluation = evaluate(
            loaded, samples, report=report, allow_blank_masks=allow_blank_masks, progress=progress
        )
    if table is not None:
        evaluation.write_csv(table)  # before anything is printed, which fails if nobody reads it
    if as_json:
        click.echo(json.dumps(evaluation.to_dict()))
    else:
        click.echo(f"{evaluation}\n\n{loaded.calibration.summary()}")
        if evaluation.report is not None:
            click.echo(message("Report: {path}", path=evaluation.report))
    if evaluation.report != report:  # a warning has said why it was not written
        click.get_current_context().exit(1)


def _require_separate(table: Path | None, report: Path | None, data: Path, model: Path) -> None:
    """Check that the outputs replace neither each other nor what is read."""
    from blemish.manifest import FILE, FORMER

    path = overwriting((table, report), (data, model / FILE, model / FORMER))
    if path is not None:
        raise click.UsageError(
            message("{path} is read, or written twice. Name another file for --csv or --report.", path=path)
        )
