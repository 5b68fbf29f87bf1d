"""Tiny data sets, a model fitted on one, and a way to run the command in this process."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import blemish
from blemish.cli.main import blemish as program
from cli_data import defect_mask, draw_part, write


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow computer must not add lines to the outputs that are compared."""
    monkeypatch.setattr("blemish.progress.SILENT_SECONDS", math.inf)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `blemish ARGUMENTS…` in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(program, [str(argument) for argument in arguments], prog_name="blemish")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run_command


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets: `flat` (20 normal images), `masked` (mvtec), `plain` (the same without masks)."""
    root = tmp_path_factory.mktemp("made")
    for index in range(20):
        write(root / "flat" / f"{index:02d}.png", draw_part(index))
    for name in ("masked", "plain"):
        for index in range(8):
            write(root / name / "train" / "good" / f"{index}.png", draw_part(index))
        for index in range(4):
            write(root / name / "test" / "good" / f"{index}.png", draw_part(100 + index))
            write(root / name / "test" / "spot" / f"{index}.png", draw_part(200 + index, is_defective=True))
    for index in range(4):
        write(root / "masked" / "ground_truth" / "spot" / f"{index}_mask.png", defect_mask())
    return root


@pytest.fixture(scope="session")
def fitted(made: Path) -> Path:
    """A model of the method `variation`, fitted on `masked`, thresholds clear of the noise; not to be changed."""
    folder = made / "fitted.model"
    arguments = ["fit", "variation", str(made / "masked"), "-o", str(folder), "--image-size", "48x64"]
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 0, result.output
    found = blemish.load(folder).calibration
    blemish.recalibrate(folder, image=2 * found.image_threshold, pixel=2 * found.pixel_threshold)
    return folder


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(fitted, tmp_path / "copy.model"))
