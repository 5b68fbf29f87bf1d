"""Greedy k-centre and the streamed net compared by PatchCore on products that `blemish demo` draws.

    BLEMISH_WEIGHTS=... python -m benchmarks.coresets

No inspection data set is involved: this is where `coreset="auto"` was settled.
"""

import statistics
import tempfile
from pathlib import Path

import blemish
from blemish.demo import write_product

SEEDS = (11, 12, 13)
BACKBONES = ("compact", "resnet18")
CORESETS = ("greedy", "streaming")


def main() -> None:
    """Draw the products, fit and evaluate both coresets at 1 % on each, print a Markdown table of image AUROCs."""
    print("| product | backbone | " + " | ".join(CORESETS) + " |\n|---|---|" + "---|" * len(CORESETS))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            product = write_product(
                Path(folder) / str(seed), train=150, test_good=60, per_defect=12, seed=seed
            )
            data = blemish.open_dataset(product)
            for backbone in BACKBONES:
                row = []
                for coreset in CORESETS:
                    arguments = {"backbone": backbone, "coreset": coreset}
                    model = blemish.fit(
                        "patchcore",
                        data.train,
                        arguments=arguments,
                        preprocess=blemish.Preprocess(),
                        group_by="none",
                        hold_out_share=0.1,
                        device="cpu",
                    )
                    row.append(blemish.evaluate(model, data.test).image_auroc or 0.0)
                rows.append(row)
                print(f"| {seed} | {backbone} | " + " | ".join(f"{a:.4f}" for a in row) + " |", flush=True)
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print("| mean | | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
