"""Backbones compared by PatchCore on the product that `blemish demo` draws: no inspection data set is involved.

    BLEMISH_WEIGHTS=... python -m benchmarks.backbones

This is where choices about `compact` are judged, so that none is made on bottle or magnetic_tile.
"""

import tempfile
from pathlib import Path

import blemish
from blemish.demo import write_product

BACKBONES = ("compact", "resnet18", "resnet50_caffe", "compact:random", "resnet18:random")


def main() -> None:
    """Draw one product, fit and evaluate each backbone on it, print a Markdown table."""
    print("| backbone | image AUROC | pixel AUROC | AUPRO | ms per image |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = blemish.open_dataset(
            write_product(Path(folder) / "plate", test_good=40, per_defect=12, seed=1)
        )
        for backbone in BACKBONES:
            model = blemish.fit(
                "patchcore",
                data.train,
                arguments={"backbone": backbone},
                preprocess=blemish.Preprocess(),
                group_by="none",
                hold_out_share=0.1,
                device="cpu",
            )
            found = blemish.evaluate(model, data.test)
            numbers = (found.image_auroc, found.pixel_auroc, found.aupro)
            shown = " | ".join(f"{number:.4f}" for number in numbers if number is not None)
            print(f"| {backbone} | {shown} | {1000 * (found.seconds_per_image or 0):.0f} |", flush=True)


if __name__ == "__main__":
    main()
