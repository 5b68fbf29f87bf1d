"""`blemish inspect`: lines, JSON, heat maps, bad files, exit codes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray

import blemish
from blemish.data.images import read_image
from blemish.inspection.annotated import draw_annotated
from blemish.inspection.result import Inspection
from blemish.methods.base import Method
from blemish.runtimes.torch import TorchRuntime
from blemish.types import Prediction
from cli_data import draw_part, write
from model_folder import stored

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good and defective images in subfolders, of different sizes."""
    write(tmp_path / "new" / "2.png", draw_part(300))
    write(tmp_path / "new" / "10.png", draw_part(301, is_defective=True))
    large = cv2.resize(draw_part(302, is_defective=True), (200, 150), interpolation=cv2.INTER_AREA)
    write(tmp_path / "new" / "更多 x" / "10.png", np.asarray(large, np.uint8))
    (tmp_path / "new" / "notes.txt").write_text("not an image")
    return tmp_path / "new"


def test_lines_are_the_verdicts_of_the_model(run: Run, fitted: Path, folder: Path) -> None:
    result = run("inspect", fitted, folder)

    model = blemish.load(fitted)
    expected = ""
    for path in (folder / "2.png", folder / "10.png", folder / "更多 x/10.png"):
        found = model.inspect(path)
        expected += f"{found.verdict} {found.score:.4g} (threshold {found.threshold:.4g}) "
        expected += f"regions {len(found.regions)} {path}\n"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == expected
    assert [line[:2] for line in expected.splitlines()] == ["OK", "NG", "NG"]


def test_json_lines(run: Run, fitted: Path, folder: Path) -> None:
    result = run("inspect", fitted, folder / "10.png", folder / "2.png", "--json")

    first, second = map(json.loads, result.stdout.splitlines())
    assert list(first) == [
        *("path", "score", "verdict", "threshold", "review_threshold"),
        *("severity", "reason", "reasons", "regions", "certificate"),
    ]
    assert first["path"] == str(folder / "10.png")
    assert first["verdict"] == "NG"
    region = first["regions"][0]
    assert list(region) == [
        *("x", "y", "width", "height", "area", "length", "mean_width", "aspect", "centre_x", "centre_y"),
        *("peak", "peak_x", "peak_y", "mass", "contrast", "edge_distance", "runs"),
    ]
    assert 30 <= region["peak_x"] < 42
    assert 20 <= region["peak_y"] < 30
    expected = blemish.load(fitted).inspect(folder / "2.png").to_dict()
    assert second == expected | {"certificate": None}


def test_heat_maps_have_the_absolute_scale_and_the_folders_structure(
    run: Run, fitted: Path, folder: Path
) -> None:
    result = run("inspect", fitted, folder, "-o", "maps")

    assert result.exit_code == 0
    written = sorted(path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.*"))
    assert written == ["10_heatmap.jpg", "2_heatmap.jpg", "更多 x/10_heatmap.jpg"]
    model = blemish.load(fitted)
    found = model.inspect(folder / "10.png")
    expected = draw_annotated(found)
    difference = read_image("maps/10_heatmap.jpg").astype(int) - expected.astype(int)
    assert np.abs(difference).mean() < 6  # JPEG


def test_results_of_an_earlier_run_are_not_inspected(run: Run, fitted: Path, folder: Path) -> None:
    first = run("inspect", fitted, folder, "-o", folder / "maps")
    assert run("inspect", fitted, folder, "-o", folder / "maps").stdout == first.stdout


def test_heat_maps_beside_the_images_are_not_inspected_but_replaced(
    run: Run, fitted: Path, folder: Path
) -> None:
    first = run("inspect", fitted, folder, "-o", folder)
    written = sorted(folder.rglob("*_heatmap.jpg"))
    assert len(written) == 3
    assert run("inspect", fitted, folder, "-o", folder).stdout == first.stdout
    assert run("inspect", fitted, folder).stdout == first.stdout
    assert sorted(folder.rglob("*_heatmap.jpg")) == written
    assert run("inspect", fitted, written[0]).stdout.endswith(f"{written[0]}\n"), "named by the user"


def test_a_heat_map_that_cannot_be_written_costs_no_verdict(
    run: Run, fitted: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run("inspect", fitted, folder).stdout
    Path("maps").mkdir()
    Path("maps/更多 x").write_text("a file where a folder is needed")

    def draw(found: Inspection) -> NDArray[np.uint8]:
        wide = (2, 70000, 3) if found.path == folder / "2.png" else (2, 2, 3)
        return np.zeros(wide, np.uint8)

    monkeypatch.setattr("blemish.inspection.annotated.draw_annotated", draw)
    result = run("inspect", fitted, folder, "-o", "maps")
    assert (result.exit_code, result.stdout) == (1, expected)
    assert result.stderr == (
        f"Error: The heat map of {folder / '2.png'} was not written: 2_heatmap.jpg: 70000×2 pixels are too many for "
        "this format. Write a PNG.\n"
        f"Error: The heat map of {folder / '更多 x/10.png'} was not written: File exists. Check the folder, its "
        "permissions and the disk.\n"
    )
    assert Path("maps/10_heatmap.jpg").exists()
    assert run("inspect", fitted, folder, "-o", "maps", "--fail-on", "ng").exit_code == 3


def test_an_image_without_a_usable_score_does_not_end_the_others(
    run: Run, fitted: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run("inspect", fitted, folder).stdout.splitlines(keepends=True)
    predict = TorchRuntime.predict

    def without_second(self: TorchRuntime, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        scores, maps = predict(self, images)
        scores[1] = np.nan
        return Prediction(scores, maps)

    monkeypatch.setattr(TorchRuntime, "predict", without_second)
    result = run("inspect", fitted, folder)
    assert (result.exit_code, result.stdout) == (1, expected[0] + expected[2])
    assert result.stderr.startswith(
        f"Error: The model gave {folder / '10.png'} a score or an anomaly map that is NaN"
    )


def test_a_strip_gets_a_verdict(run: Run, made: Path, folder: Path) -> None:
    options = ("--resize", "fit", "--image-size", "64")
    assert run("fit", "padim", made / "flat", "-o", "padim.model", *options).exit_code == 0
    write(folder / "5.png", np.full((3, 500, 3), 100, np.uint8))
    result = run("inspect", "padim.model", folder, "-o", "maps")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 4


def test_a_verdict_that_differs_from_the_regions_says_why(run: Run, model: Path, folder: Path) -> None:
    blemish.recalibrate(model, pixel=1e9)
    result = run("inspect", model, folder / "10.png")
    found = blemish.load(model).inspect(folder / "10.png")
    assert result.stdout.startswith("NG ")
    assert result.stdout.endswith(f"regions 1 {folder / '10.png'} – {found.reason}\n")


def test_images_are_never_overwritten(run: Run, fitted: Path, folder: Path) -> None:
    write(folder / "2_heatmap.jpg", draw_part(303))
    result = run("inspect", fitted, folder, "-o", folder)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        f"Error: Invalid value for -o: The heat map of {folder / '2.png'} would overwrite another image. Name another "
        "folder for the heat maps.\n"
    )


def test_bad_files_are_reported_and_the_others_judged(run: Run, fitted: Path, folder: Path) -> None:
    (folder / "5.png").write_text("I am no image")
    (folder / "empty").mkdir()
    paths = (folder, folder / "absent.png", folder / "empty")
    reasons = [
        f"{folder / '5.png'} is not a PNG, JPEG, BMP, TIFF or WebP image, whatever its name. Convert it or remove it.",
        f"{folder / 'absent.png'} does not exist. Check the path.",
        f"{folder / 'empty'} holds no images. Name an image, or a folder that holds images.",
    ]

    assert run("inspect", fitted, *paths, "--fail-on", "ng").exit_code == 3
    result = run("inspect", fitted, *paths, "-o", "maps")
    assert result.exit_code == 1
    assert result.stderr == "".join(f"Error: {reason}\n" for reason in reasons)
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["OK", "NG", "NG"]
    assert len([path for path in Path("maps").rglob("*") if path.is_file()]) == 3

    result = run("inspect", fitted, *paths, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line for line in lines if "error" in line] == [
        {"path": str(path), "error": reason}
        for path, reason in zip((folder / "5.png", *paths[1:]), reasons, strict=True)
    ]
    assert len(lines) == 6


def test_fail_on_ng(run: Run, fitted: Path, folder: Path) -> None:
    assert run("inspect", fitted, folder, "--fail-on", "ng").exit_code == 3
    assert run("inspect", fitted, folder).exit_code == 0
    assert run("inspect", fitted, folder / "2.png", "--fail-on", "ng").exit_code == 0


def test_damaged_model(run: Run, model: Path, folder: Path) -> None:
    shutil.copy(model / "manifest.json", stored(model))
    result = run("inspect", model, folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {stored(model)} is not the file that the manifest describes: its sha256 differs. "
        "Copy the model folder again.\n"
    )


def test_another_device_than_the_cpu_is_named(
    run: Run, fitted: Path, folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(TorchRuntime):
        def __init__(self, method: Method, device: str) -> None:
            super().__init__(method)
            self.device = "cuda"

        def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
            return TorchRuntime(self.method).predict(images)

    assert run("inspect", fitted, folder).stderr == ""
    monkeypatch.setattr("blemish.runtimes.torch.TorchRuntime", OnGpu)
    assert run("inspect", fitted, folder).stderr == "Device: cuda\n"
    assert run("evaluate", fitted, made / "plain", "--json").stderr == "Device: cuda\n"
