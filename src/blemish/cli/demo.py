"""`blemish demo`: the whole job on a product that blemish makes itself."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blemish.inspection.result import Inspection
    from blemish.types import Mask, Progress, Sample

IMAGE_SIZE = (320, 432)
"""Close to the pictures' own aspect ratio; scratches are too thin for much less."""

EXAMPLES = """\b
blemish demo
"""


@click.command("demo", short_help="See it work on a product it makes itself.", epilog=EXAMPLES)
@click.option(
    "-o",
    "--output",
    default="demo",
    show_default=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where images, model, heat maps and report go.",
)
def command(output: Path) -> None:
    """Make pictures of a product, learn the good ones, find the defects, write heat maps and a report."""
    from blemish.progress import progress_bars

    with progress_bars() as progress:
        text = run_demo(output, progress=progress)
    click.echo(text)


def run_demo(folder: Path, *, backbone: str = "compact", images: int = 60, progress: "Progress") -> str:
    """Do what `blemish demo` does; what it says at its end.

    Args:
        folder: Where everything goes.
        backbone: Of PatchCore.
        images: Good pictures to learn from; a third as many good ones and a tenth of each defect are tested.
        progress: Told of each phase.
    """
    from blemish.cli.fit import require_place
    from blemish.data.dataset import open_dataset
    from blemish.data.preprocess import Preprocess
    from blemish.demo import write_product
    from blemish.workflow.evaluate import evaluate
    from blemish.workflow.fit import fit

    product, saved, report, heat_maps = (
        folder / name for name in ("plate", "model", "report.html", "heatmaps")
    )
    require_place(saved)
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

    def observe(sample: "Sample", found: "Inspection", _: "Mask | None") -> None:
        found.save(heat_maps / sample.defect_type / f"{sample.path.stem}_heatmap.jpg")

    evaluation = evaluate(model, dataset.test, observe=observe, report=report, progress=progress)
    return (
        f"{model.summary()}\nModel: {saved}\n\n{evaluation}\n\n"
        f"Pictures: {product}\nHeat maps: {heat_maps}\nReport: {report.resolve()}"
    )
