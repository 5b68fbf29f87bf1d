"""Compares settings of a method without any test image: good images, and synthetic defects painted on them.

    python -m benchmarks.synthetic_defects METHOD FOLDER [OPTION...]

FOLDER is a data set; only its normal training images are read. OPTIONs are those of `blemish fit`, without -o and
--hold-out. A share of the images is held out. The model scores them as they are and, each twice, with a synthetic
defect. Printed are the image AUROC, the pixel AUROC and the seconds of the fit.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import blemish
from blemish.blocks.synthetic.defects import add_defects
from blemish.blocks.synthetic.procedural import procedural_images
from blemish.data.images import read_image, write_image

HOLD_OUT = 0.25
COPIES = 2
"""Number of defective copies of each held-out image."""
TEXTURES = 16
SEED = 20
"""Of the defects; they are the same for every method and setting."""


def main(method: str, folder: Path, options: list[str]) -> None:
    """Fit, paint, evaluate."""
    with tempfile.TemporaryDirectory() as work:
        model = Path(work) / "model.blemish"
        command = [sys.executable, "-m", "blemish", "fit", method, str(folder), "-o", str(model)]
        subprocess.run(
            [*command, "--hold-out", str(HOLD_OUT), "--group-by", "none", *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        loaded = blemish.load(model)
        assert loaded.manifest.data is not None
        learned = {Path(name).name for name in loaded.manifest.data.images}
        train = blemish.open_dataset(folder).train
        held_out = [sample.path for sample in train if sample.path.name not in learned]
        paint(held_out, Path(work) / "data")
        with warnings.catch_warnings():
            # The normal ones set the thresholds of this model, on which no AUROC depends.
            warnings.simplefilter("ignore", blemish.BlemishWarning)
            evaluation = blemish.evaluate(loaded, blemish.open_dataset(Path(work) / "data").test)
        seconds = loaded.manifest.history.seconds
    print(
        f"{evaluation.image_auroc:.4f} {evaluation.pixel_auroc:.4f} {seconds:.0f} s",
        method,
        *options,
        flush=True,
    )


def paint(images: list[Path], folder: Path) -> None:
    """Write the images and their defective copies in MVTec AD's layout."""
    torch.manual_seed(SEED)
    textures = procedural_images(TEXTURES, (256, 256))
    for number, path in enumerate(images):
        image = read_image(path)
        assert image.dtype == np.uint8, f"{path} has {image.dtype} pixels; this benchmark reads 8 bits"
        save(folder / "test/good" / f"{number:04d}.png", image)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        for copy in range(COPIES):
            painted, mask = add_defects(tensor, textures)
            name = f"{number:04d}_{copy}"
            save(folder / "test/synthetic" / f"{name}.png", as_image(painted[0]))
            marked = mask[0, 0].numpy().astype(np.uint8) * 255
            save(folder / "ground_truth/synthetic" / f"{name}_mask.png", np.stack([marked] * 3, 2))
    save(folder / "train/good/0000.png", image)


def as_image(image: torch.Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] → (H, W, 3)."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def save(path: Path, image: NDArray[Any]) -> None:
    """Write an image, and its folder before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
