"""fit → evaluate → inspect → calibrate → show, as a person would do it; whole outputs compared."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import blemish
from cli_data import SIZE, draw_part, without_decimals, write
from model_folder import stored

Run = Callable[..., Result]

NUMBERS = [
    "images",
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
]
KEYS = [
    *NUMBERS,
    "false_alarm_rate",
    "miss_rate",
    "by_type",
    "seconds_per_image",
    "zero_misses",
    "missed",
    "shift",
]


def test_flat_folder_of_twenty_images(run: Run, made: Path, tmp_path: Path) -> None:
    result = run(
        *("fit", "pca", made / "flat", "-o", "models/part", "--image-size", "32", "--set", "components=4"),
        *("--calibrate", "hold-out"),
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert without_decimals(result.stdout) == (
        "Images 48 × 64, input 32 × 32 pixels (height × width): one cell covers # × 1 pixels; defects from about 24 "
        "pixels can be expected to be seen.\n"
        "Learned from 18 images in # s, held out 2.\n"
        "Image threshold #, pixel threshold #.\n"
        "Thresholds rest on 2 held-out normal images, too few for the requested false-alarm rate of 1 %; expect up to "
        "33 % of normal images called NG (below 78 % with 95 % confidence). It takes at least 99 independent images to "
        "reach it.\n"
        f"Highest scores among these images: {made}/flat/04.png (#); {made}/flat/19.png (#)\n"
        "Model: models/part\n"
    )
    assert sorted(path.name for path in (tmp_path / "models/part").iterdir()) == [
        "manifest.json",
        stored(tmp_path / "models/part").name,
    ]

    defective = write(tmp_path / "new" / "缺陷 1.png", draw_part(7, is_defective=True))
    result = run("inspect", "models/part", defective.parent)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("NG ")
    assert result.stdout.endswith(f" {defective}\n")

    result = run("evaluate", "models/part", made / "flat")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no image to evaluate on. Give a data set with a test split.\n"


def test_evaluate_with_masks(run: Run, made: Path, fitted: Path, tmp_path: Path) -> None:
    result = run("evaluate", fitted, made / "masked", "--report", "out/report.html")

    assert (result.exit_code, result.stderr) == (0, "")
    text, _, calibration = result.stdout.partition(" s per image, without reading the file\n\n")
    assert calibration == f"{blemish.load(fitted).calibration.summary()}\nReport: out/report.html\n"
    lines = text.splitlines()
    assert lines[:2] == ["images            8 (4 normal, 4 anomalous)", "image_auroc       1.0000"]
    assert [line.split()[0] for line in lines[:10]] == KEYS[:10]
    at = lines.index("defect type  images  image_auroc  pixel_auroc   aupro  miss_rate")
    assert lines[at + 1].split()[:3] == ["spot", "4", "1.0000"]
    html = (tmp_path / "out/report.html").read_text("utf-8")
    assert "test/spot/0.png" in html
    assert "variation" in html


def test_evaluate_json_has_exactly_the_promised_keys(run: Run, made: Path, fitted: Path) -> None:
    result = run("evaluate", fitted, made / "masked", "--json")

    numbers = json.loads(result.stdout)
    assert [key for key in numbers if key != "errors"] == KEYS
    assert numbers["images"] == 8
    assert numbers["image_auroc"] == 1.0
    assert numbers["by_type"]["spot"]["images"] == 4


def test_evaluate_writes_a_table_and_names_the_missed(run: Run, made: Path, model: Path) -> None:
    blemish.recalibrate(model, image=1e6)
    result = run("evaluate", model, made / "masked", "--csv", "out/表.csv")

    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    at = lines.index("Missed defects:")
    missed = [f"{made / 'masked/test/spot' / name}.png (spot, score #)" for name in "0123"]
    assert sorted(map(without_decimals, lines[at + 1 : at + 5])) == missed
    rows = Path("out/表.csv").read_text("utf-8-sig").splitlines()
    assert rows[0] == "path,label,defect_type,score,threshold,verdict"
    assert [row.rpartition(",")[2] for row in rows[1:]] == ["OK"] * 8
    numbers = json.loads(run("evaluate", model, made / "masked", "--json").stdout)
    assert {image["defect_type"] for image in numbers["missed"]} == {"spot"}
    assert numbers["zero_misses"]["false_alarm_rate"] == 0


def test_numbers_are_printed_though_the_report_cannot_be_written(
    run: Run, made: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("blemish.reports.html.write_whole", full)
    result = run("evaluate", fitted, made / "masked", "--report", "r.html")
    assert result.exit_code == 1
    assert result.stdout.startswith("images            8 (4 normal, 4 anomalous)\n")
    assert result.stderr.startswith("Warning: The report r.html was not written: No space left on device. ")


def test_blank_masks_are_refused_unless_allowed(run: Run, made: Path, fitted: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(made / "masked", tmp_path / "masked"))
    write(data / "ground_truth/spot/2_mask.png", np.zeros(SIZE, bool))
    result = run("evaluate", fitted, data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: 1 mask of an anomalous image marks no pixel: ")
    assert run("evaluate", fitted, data, "--allow-blank-masks").exit_code == 0


def test_without_masks_pixel_metrics_are_absent_with_a_reason(run: Run, made: Path, fitted: Path) -> None:
    result = run("evaluate", fitted, made / "plain", "--json")
    numbers = json.loads(result.stdout)
    assert [key for key in numbers if key not in ("errors", "reasons")] == KEYS
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"):
        assert numbers[name] is None
        assert numbers["reasons"][name]

    result = run("evaluate", fitted, made / "plain")
    assert f"pixel_auroc       – {numbers['reasons']['pixel_auroc']}\n" in result.stdout


def test_calibrate(run: Run, model: Path) -> None:
    before = blemish.load(model).calibration

    result = run("calibrate", model, "--false-alarm-rate", "0.5")
    assert (result.exit_code, result.stderr) == (0, "")
    changed = blemish.load(model).calibration
    assert changed == before.with_false_alarm_rate(0.5)
    assert without_decimals(result.stdout) == f"Image threshold #, pixel threshold #.\n{changed.summary()}\n"

    result = run("calibrate", model, "--image-threshold", "2.5", "--pixel-threshold", "9")
    assert result.stdout.startswith(
        "Image threshold 2.5 (set by hand), pixel threshold 9 (set by hand).\nThe image threshold was set by hand; "
    )
    assert blemish.load(model).calibration == changed.with_thresholds(image=2.5, pixel=9)


def test_show(run: Run, fitted: Path) -> None:
    result = run("show", fitted)

    assert (result.exit_code, result.stderr) == (0, "")
    manifest = blemish.load(fitted).manifest
    arguments = "".join(f"  {name:<15} {value}\n" for name, value in manifest.arguments.items())
    assert result.stdout == (
        f"method            variation\n{arguments}"
        "category          masked\n"
        "learned from      8 images (seed 0)\n"
        "held out          0 images\n"
        "skipped           0 unreadable images\n"
        f"data              fingerprint {manifest.data.fingerprint[:16]}\n"
        "input             48 × 64 pixels (height × width), squash\n"
        "resolution        one cell covers 1 × 1 pixels; defects from about 12 pixels can be expected to be seen\n"
        f"image threshold   {manifest.calibration.image_threshold:.6g} (set by hand)\n"
        f"pixel threshold   {manifest.calibration.pixel_threshold:.6g} (set by hand)\n"
        f"                  {manifest.calibration.summary()}\n"
        "files             weights.safetensors\n"
        f"written by        blemish {blemish.__version__}, format 6\n"
    )
    assert json.loads(run("show", fitted, "--json").stdout) == json.loads(
        (fitted / "manifest.json").read_text("utf-8")
    )


def test_methods(run: Run) -> None:
    described = {method["name"]: method for method in json.loads(run("methods", "--json").stdout)}
    assert tuple(described) == blemish.method_names()
    assert described["patchcore"]["arguments"]["coreset_ratio"] == 0.01
    assert described["patchcore"]["presets"]["amazon"]["arguments"]["mean_mapped"] == 1024
    assert described["patchcore"]["needs_backbone"] is True
    assert described["template"]["needs_backbone"] is False
    assert described["template"]["exports"] is False
    assert described["pca"]["summary"].startswith("PCA: ")

    assert described["patchcore"]["schema"]["properties"]["coreset_ratio"]["maximum"] == 1
    one = run("methods", "patchcore").stdout
    assert "    coreset_ratio=0.01 (a number in (0, 1])\n      Maximum share of the training patches" in one

    text = run("methods").stdout
    assert (
        "patchcore\n"
        "  PatchCore: distance of image patches to a coreset of normal patches.\n"
        "  arguments: backbone=compact layers=2,3 patch_size=3 coreset_ratio=0.01 bank_size=null coreset=auto "
        "neighbours=9 squared=false mean_mapped=null\n"
        "  presets: paper, amazon\n"
        "  pretrained backbone, exports to ONNX\n"
    ) in text


@pytest.mark.parametrize("arguments", [["show"], ["calibrate", "--image-threshold", "1"]])
def test_folder_that_is_no_model(run: Run, made: Path, arguments: list[str]) -> None:
    result = run(arguments[0], made / "flat", *arguments[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {made / 'flat'} is not a model: it has no manifest.json. Name a folder that `blemish fit` wrote.\n"
    )


def test_calibrate_without_a_change_is_a_usage_error(run: Run, fitted: Path) -> None:
    result = run("calibrate", fitted)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: Nothing to change. Give --false-alarm-rate, --review-share, --image-threshold or "
        "--pixel-threshold.\n"
    )
