"""A new method touches five files: they are added to a copy of the project, whose own tests then accept it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("src", "tests", "docs", "tools", "benchmarks", "examples", "pyproject.toml", "Makefile")

METHOD = '''"""MeanDifference: how far each pixel is from the mean of the normal images.

Written for a test. Differs from the paper: there is none.
"""

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding
from blemish.methods import arguments
from blemish.methods.base import Batches, Method
from blemish.types import Prediction


class MeanDifference(Method):
    """Absolute difference from the mean normal image."""

    sigma: float = arguments.sigma()

    def build(self) -> None:
        self.mean: Tensor  # (3, H, W)
        self.register_buffer("mean", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        self.mean = torch.cat([split_padding(images)[0] for images in batches]).mean(0)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        filled, visible = split_padding(images)
        grid = mask_grid((filled - self.mean).abs().mean(1), visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)
'''

PAGE = """# mean_difference

<!-- en | difference from the mean image | aligned objects -->
<!-- zh | 与平均图像的差异 | 位置对齐的物体 -->

Written for a test.

## Idea

Each pixel is compared with its mean.

## When to use it

Never.

## Arguments

<!-- arguments -->
<!-- /arguments -->

## Presets

None.

## Measured

<!-- results:mean_difference -->
<!-- /results -->

## Difference from the paper

There is none.
"""


class Project:
    """A copy of the project that counts the files written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for name in (*PARTS, *(path.name for path in ROOT.glob("*.md"))):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    def write(self, name: str, text: str) -> None:
        self.touched.add(name)
        (self.folder / name).write_text(text, "utf-8")

    def insert(self, name: str, before: str, line: str) -> None:
        """Put a line before the first one that begins like this."""
        lines = (self.folder / name).read_text("utf-8").splitlines(keepends=True)
        place = next(i for i, text in enumerate(lines) if text.startswith(before))
        self.write(name, "".join([*lines[:place], line + "\n", *lines[place:]]))

    def run(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        environment.pop("PYTEST_XDIST_WORKER", None)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_a_new_method_touches_at_most_five_files(tmp_path: Path) -> None:
    project = Project(tmp_path)
    catalogue, contract = "src/blemish/methods/__init__.py", "tests/test_contract.py"
    project.write("src/blemish/methods/mean_difference.py", METHOD)
    typed = "    from blemish.methods.mean_difference import MeanDifference as MeanDifference"
    project.insert(catalogue, "    from blemish.methods.msflow", typed)
    named = '    "mean_difference": "blemish.methods.mean_difference:MeanDifference",'
    project.insert(catalogue, '    "template"', named)
    project.write("docs/methods/mean_difference.md", PAGE)
    imported = "from blemish.methods.mean_difference import MeanDifference"
    project.insert(contract, "from blemish.methods.msflow", imported)
    project.insert(contract, '    "template"', '    "mean_difference": MeanDifference,')
    project.insert("benchmarks/results.py", '    Run("template")', '    Run("mean_difference"),')
    assert len(project.touched) == 5

    project.run("tools/write_docs.py")
    assert "MeanDifference" in project.run("-c", "import blemish; print(blemish.MeanDifference.__name__)")
    assert "sigma=4.0 (a number in [0, 100])" in project.run("-m", "blemish", "methods", "mean_difference")
    tests = ("tests/docs/test_docs.py", "tests/test_public_names.py", "tests/test_plugins.py", contract)
    chosen = (
        "mean_difference or MeanDifference or generated or every_method or every_public or names_for_type"
    )
    said = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert int(said.split(" passed")[0].split()[-1]) >= 30
