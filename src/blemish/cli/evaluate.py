"""`blemish evaluate`: evaluate a model on labelled images."""

import json
from functools import partial
from pathlib import Path

import click

from blemish.cli.options import data_options, json_option, print_device, runtime_options
from blemish.cli.outputs import failure_of, require_separate
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
    require_separate({"--csv": table, "--report": report}, dataset, model)
    loaded = load(model, runtime=runtime, device=device)
    print_device(loaded)
    if table is not None:
        require_writable_file(table)
    samples = images_to_evaluate(loaded, dataset)
    with progress_bars() as progress:
        evaluation = evaluate(
            loaded, samples, report=report, allow_blank_masks=allow_blank_masks, progress=progress
        )
    failure = None if table is None else failure_of(partial(evaluation.write_csv, table))
    if as_json:
        click.echo(json.dumps(evaluation.to_dict()))
    else:
        click.echo(f"{evaluation}\n\n{loaded.calibration.summary()}")
        if evaluation.report is not None:
            click.echo(message("Report: {path}", path=evaluation.report))
    if failure is not None:
        raise failure
    if evaluation.report != report:  # a warning has said why it was not written
        click.get_current_context().exit(1)
