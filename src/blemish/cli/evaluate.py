"""`blemish evaluate`: measure a model on labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import data_options, json_option, require_device, runtime_options

if TYPE_CHECKING:
    from blemish.metrics.evaluation import Evaluation

EXAMPLES = """\b
blemish evaluate bottle.blemish bottle/ --report bottle.html
blemish evaluate bottle.blemish bottle/ --json
"""


@click.command("evaluate", short_help="Measure a model on labelled images.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@data_options
@json_option
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report, one HTML file that opens offline.",
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
    """Measure MODEL on the test images of DATA: how well it ranks, finds and outlines defects."""
    from blemish.cli.progress import shown_progress
    from blemish.data.dataset import open_dataset
    from blemish.model import load
    from blemish.workflow.evaluate import evaluate

    dataset = open_dataset(data, layout=layout, category=category)
    require_device(device, runtime)
    loaded = load(model, runtime=runtime, device=device)
    with shown_progress() as progress:
        evaluation = evaluate(loaded, dataset.test, report=report, progress=progress)
    if as_json:
        import json

        click.echo(json.dumps(evaluation.to_dict()))
        return
    click.echo(f"{format_evaluation(evaluation)}\n\n{loaded.calibration.summary()}")
    if report is not None:
        click.echo(f"Report: {report}")


def format_evaluation(evaluation: "Evaluation") -> str:
    """The numbers, a row for each defect type, and what is to be known about them."""
    lines = [str(evaluation), "", *_rows_by_type(evaluation)]
    if evaluation.errors:
        bound = max(evaluation.errors.values())
        lines += [
            "",
            f"Pixel scores were binned to bound the memory: pixel metrics are within {bound:.1e} of exact.",
        ]
    if evaluation.seconds_per_image is not None:
        lines += ["", f"{evaluation.seconds_per_image:.4f} s per image, without reading the file"]
    return "\n".join(lines)


def _rows_by_type(evaluation: "Evaluation") -> list[str]:
    header = ("defect type", "images", "image_auroc", "pixel_auroc", "aupro", "miss_rate")
    rows: list[tuple[str, ...]] = [header]
    for name, row in evaluation.by_type.items():
        cells = ("–" if row[key] is None else f"{row[key]:.4f}" for key in header[2:])
        rows.append((name, str(row["images"]), *cells))
    width = max(len(row[0]) for row in rows)
    return [
        f"{row[0]:<{width}}"
        + "".join(f"  {cell:>{len(key)}}" for cell, key in zip(row[1:], header[1:], strict=True))
        for row in rows
    ]
