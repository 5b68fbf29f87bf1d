"""`blemish demo`: fit and evaluate on a synthetic product."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.messages import lines, message

if TYPE_CHECKING:
    from blemish.inspection.result import Inspection
    from blemish.types import Mask, Progress, Sample

IMAGE_SIZE = (320, 432)
"""Close to the images' aspect ratio; scratches are too thin for a much smaller size."""

OWN = re.compile(r"\d{3}(_mask)?\.png")
"""Names of the files that a demo writes for its product."""

EXAMPLES = """\b
blemish demo
"""


@click.command("demo", short_help="Try blemish on a synthetic product.", epilog=EXAMPLES)
@click.option(
    "-o",
    "--output",
    default="demo",
    show_default=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for images, model, heat maps and report.",
)
def command(output: Path) -> None:
    """Render images of a synthetic product, learn the normal ones, inspect the others, write heat maps and a report."""
    from blemish.progress import progress_bars

    with progress_bars() as progress:
        text = run_demo(output, progress=progress)
    click.echo(text)


def run_demo(folder: Path, *, backbone: str = "compact", images: int = 60, progress: "Progress") -> str:
    """Run the demo and return its summary.

    Args:
        folder: Folder for all files.
        backbone: Backbone of PatchCore.
        images: Number of training images; a third as many normal ones and a tenth as many of each defect are tested.
        progress: Called with the progress of each phase.
    """
    from blemish.cli.fit_output import require_output
    from blemish.data.dataset import open_dataset
    from blemish.data.preprocess import Preprocess
    from blemish.demo import write_product
    from blemish.workflow.evaluate import evaluate
    from blemish.workflow.fit import fit

    product, saved, report, heat_maps = (
        folder / name for name in ("plate", "model", "report.html", "heatmaps")
    )
    require_output(saved)
    _require_own(product)
    write_product(
        product,
        train=images,
        test_good=max(1, images // 3),
        per_defect=max(1, images // 10),
        progress=progress,
    )
    dataset = open_dataset(product)
    model = fit(
        "patchcore",
        dataset.train,
        arguments={"backbone": backbone},
        preprocess=Preprocess(size=IMAGE_SIZE),
        progress=progress,
    )
    model.save(saved)

    def observe(sample: "Sample", inspection: "Inspection", _: "Mask | None") -> None:
        inspection.save(heat_maps / sample.defect_type / f"{sample.path.stem}_heatmap.jpg")

    evaluation = evaluate(model, dataset.test, observe=observe, report=report, progress=progress)
    return lines(
        [
            model.summary(),
            message("Model: {model}", model=saved),
            f"\n{evaluation}\n",
            message("Images: {path}", path=product),
            message("Heat maps: {path}", path=heat_maps),
            message("Report: {path}", path=report.resolve()),
        ]
    )


def _require_own(product: Path) -> None:
    """Check that the folder of the product holds nothing but what an earlier demo wrote."""
    from blemish.errors import DataError

    others = [path for path in product.rglob("*") if path.is_file() and not OWN.fullmatch(path.name)]
    if others:
        raise DataError(
            "{folder} holds other files, such as {other}. Name another folder with -o.",
            folder=product,
            other=others[0],
        )
