"""`blemish evaluate`: evaluate a model on labelled images."""

from pathlib import Path

import click

from blemish.cli.options import data_options, json_option, print_device, runtime_options

EXAMPLES = """\b
blemish evaluate bottle.blemish bottle/ --report bottle.html
blemish evaluate bottle.blemish bottle/ --json
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
@runtime_options
def command(
    model: Path,
    data: Path,
    layout: str | None,
    category: str | None,
    as_json: bool,
    report: Path | None,
    runtime: str,
    device: str,
) -> None:
    """Evaluate MODEL on the test images of DATA: ranking metrics of images and pixels, false-alarm and miss rate."""
    from blemish.data.dataset import open_dataset
    from blemish.model import load
    from blemish.progress import progress_bars
    from blemish.workflow.evaluate import evaluate

    dataset = open_dataset(data, layout=layout, category=category)
    loaded = load(model, runtime=runtime, device=device)
    print_device(loaded)
    with progress_bars() as progress:
        evaluation = evaluate(loaded, dataset.test, report=report, progress=progress)
    if as_json:
        import json

        click.echo(json.dumps(evaluation.to_dict()))
        return
    click.echo(f"{evaluation}\n\n{loaded.calibration.summary()}")
    if report is not None:
        click.echo(f"Report: {report}")
