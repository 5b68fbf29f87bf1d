"""`blemish fit`: what it refuses, and when; what its options do."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import blemish
from blemish.cli.options import parse_value
from blemish.errors import ModelError
from blemish.manifest import WEIGHTS
from blemish.runtimes import export
from cli_data import draw_part, write
from model_folder import broken_at

Run = Callable[..., Result]


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A data set that may be changed."""
    return Path(shutil.copytree(made / "masked", tmp_path / "data"))


def test_patchcore_with_backbone_preset_and_settings(run: Run, data: Path) -> None:
    result = run(
        "fit", "patchcore", data, "-o", "m", "--preset", "amazon", "--backbone", "compact:random",
        "--set", "coreset_ratio=0.5", "--set", "layers=3,", "--image-size", "64", "--resize", "fit",
        "--hold-out", "0.25", "--seed", "7", "--false-alarm-rate", "0.3",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    manifest = blemish.load("m").manifest
    assert manifest.arguments == {
        "backbone": "compact:random",
        "layers": [3],
        "coreset_ratio": 0.5,
        "bank_size": None,
        "coreset": "approximate",
        "neighbours": 1,
        "patch_size": 3,
        "squared": True,
        "mean_mapped": 1024,
    }
    assert (manifest.preprocess.size, manifest.preprocess.crop, manifest.preprocess.resize) == (
        (64, 64),
        None,
        "fit",
    )
    assert (manifest.seed, manifest.data.held_out, manifest.calibration.false_alarm_rate) == (7, 2, 0.3)


def test_onnx(run: Run, made: Path, fitted: Path) -> None:
    pytest.importorskip("onnxscript")
    result = run("fit", "variation", made / "masked", "-o", "m", "--image-size", "48x64", "--onnx")
    assert result.exit_code == 0, result.output
    image = made / "masked/test/spot/0.png"
    as_torch, as_onnx = (
        json.loads(run("inspect", "m", image, "--json", "--runtime", name).stdout)
        for name in ("torch", "onnx")
    )
    assert as_onnx["score"] == pytest.approx(as_torch["score"], rel=1e-3)
    assert as_onnx["verdict"] == as_torch["verdict"] == "NG"

    result = run("inspect", fitted, image, "--runtime", "onnx")
    assert result.stderr == (
        f"Error: {fitted} holds no model.onnx. Use another runtime; `blemish fit --onnx` makes the files of both.\n"
    )
    result = run("inspect", "m", image, "--runtime", "onnx", "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: The onnx runtime runs on the CPU only, not on 'cuda'. Leave the device out.\n"
    )


def test_a_failed_export_costs_the_graph_only(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    broken_at(monkeypatch, export, "_traced", 1, ModelError("torch cannot trace it."))
    result = run(
        "fit", "fastflow", made / "masked", "-o", "m", "--image-size", "64", "--onnx",
        "--backbone", "compact:random", "--set", "steps=1", "--set", "flow_steps=1",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stdout.endswith("\nModel: m\n")
    assert result.stderr.splitlines()[-1] == "Error: torch cannot trace it."
    assert not blemish.load("m").manifest.files.keys() - {WEIGHTS}
    assert [path.name for path in Path().iterdir()] == ["m"]


def test_unreadable_images_are_all_named_or_skipped(run: Run, data: Path) -> None:
    for name in ("1.png", "5.png"):
        (data / "train/good" / name).write_bytes(name.encode())

    result = run("fit", "variation", data, "-o", "m", "--image-size", "32")
    assert (result.exit_code, result.stdout.count("\n")) == (1, 1)  # what would be seen
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: 2 of 8 images cannot be read:"
    assert lines[1].startswith(f"  {data / 'train/good/1.png'} ")
    assert lines[2].startswith(f"  {data / 'train/good/5.png'} ")
    assert lines[3:] == ["Repair or remove them, or skip them with --skip-unreadable (skip_unreadable=True)."]
    assert not Path("m").exists()

    result = run("fit", "variation", data, "-o", "m", "--image-size", "32", "--skip-unreadable")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].endswith("held out 0, skipped 2 unreadable.")


@pytest.mark.skipif(sys.platform == "win32", reason="links are those of POSIX")
def test_links_that_lead_nowhere_are_named(run: Run, data: Path) -> None:
    links = [data / "train/good" / name for name in ("gone.png", "loop.png")]
    links[0].symlink_to(data / "absent.png")
    links[1].symlink_to(links[1])
    result = run("fit", "variation", data, "-o", "m", "--image-size", "32")
    assert (result.exit_code, "Learned" in result.stdout) == (1, False)
    assert result.stderr.splitlines()[:3] == [
        "Error: 2 of 10 images cannot be read:",
        f"  {links[0]} does not exist. Check the path.",
        f"  {links[1]} cannot be opened: Too many levels of symbolic links. Check that it is a file that you may read.",
    ]
    result = run("fit", "variation", data, "-o", "m", "--image-size", "32", "--skip-unreadable")
    assert result.stdout.splitlines()[1].endswith("held out 0, skipped 2 unreadable.")


def test_shared_images_are_a_loud_warning_once(run: Run, data: Path) -> None:
    shutil.copy(data / "train/good/3.png", data / "test/good/3.png")
    result = run("fit", "variation", data, "-o", "m", "--image-size", "32")
    assert result.exit_code == 0
    assert result.stderr == (
        "Warning: 1 test images are also training images, so an evaluation would be too optimistic; the first is "
        f"{data / 'test/good/3.png'}, the same as {data / 'train/good/3.png'}. Remove them from one of the two.\n"
    )
    result = run("evaluate", "m", data)
    assert result.stderr == (
        "Warning: 1 test images are also training images, so the metrics are too optimistic; the first is "
        f"{data / 'test/good/3.png'}. Remove them from one of the two.\n"
    )


def test_what_is_there_is_refused_before_learning(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.workflow.fit.fit", lambda *_, **__: pytest.fail("learned"))
    result = run("fit", "variation", data, "-o", data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {data} exists and is not a model, so it is not overwritten. Name another folder.\n"
    )
    result = run("fit", "template", data, "-o", "m", "--onnx")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Template cannot be exported: ")


def test_an_older_model_is_replaced(run: Run, data: Path) -> None:
    for seed in ("1", "2"):
        assert run("fit", "variation", data, "-o", "m", "--image-size", "32", "--seed", seed).exit_code == 0
    assert blemish.load("m").manifest.seed == 2
    assert sorted(path.name for path in Path().iterdir()) == ["data", "m"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["variaton"],
            "No method is called 'variaton'. Did you mean 'variation'? Choose one of: patchcore, ",
        ),
        (["variation", "--backbone", "resnet18"], "Variation has no argument 'backbone'. It has: "),
        (
            ["variation", "--preset", "paper"],
            "variation has no presets, but 'paper' was asked for. Leave the preset out.",
        ),
        (
            ["patchcore", "--backbone", "resnet9"],
            "No backbone is called 'resnet9'. Choose one of: compact, resnet18, ",
        ),
        (
            ["variation", "--layout", "coco"],
            "There is no layout 'coco'. Choose one of csv, visa, mvtec, folder, ",
        ),
        (["variation", "--category", "nut"], "{data} has no category 'nut'. Choose one of data."),
        (["variation", "--device", "tpu"], "torch finds no device 'tpu'. Choose one of: cpu"),
    ],
)
def test_mistakes_that_end_with_1(run: Run, data: Path, arguments: list[str], error: str) -> None:
    result = run("fit", arguments[0], data, "-o", "m", *arguments[1:])
    assert result.exit_code == 1
    assert "Learned" not in result.stdout
    assert result.stderr.startswith("Error: " + error.format(data=data))
    assert not Path("m").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--image-size", "big"],
            "'--image-size': 'big' is not a size. Write 256, or 256x320 for height × width.",
        ),
        (
            ["--image-size", "0"],
            "'--image-size': '0' is not a size. Write 256, or 256x320 for height × width.",
        ),
        (["--set", "layers"], "'--set': 'layers' is not name=value, such as layers=2,3."),
        (["--hold-out", "nan"], "'--hold-out': nan is not a finite number."),
        (["--seed", "-1"], "'--seed': -1 is not in the range 0<=x<=18446744073709551615."),
    ],
)
def test_mistakes_that_end_with_2(run: Run, made: Path, arguments: list[str], error: str) -> None:
    result = run("fit", "patchcore", made / "flat", "-o", "m", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Usage: blemish fit [OPTIONS] METHOD DATA\nTry 'blemish fit --help' for help.\n\n"
        f"Error: Invalid value for {error}\n"
    )


def test_backbone_said_twice(run: Run, made: Path) -> None:
    result = run("fit", "patchcore", made / "flat", "-o", "m", "--set", "backbone=a", "--backbone", "b")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: --backbone and --set backbone=… are the same argument. Give one of them.\n"
    )


def test_category_is_asked_for(run: Run, tmp_path: Path) -> None:
    for name in ("bolt", "nut"):
        for index in range(3):
            write(tmp_path / "root" / name / "train/good" / f"{index}.png", draw_part(index))
            write(
                tmp_path / "root" / name / "test/spot" / f"{index}.png", draw_part(index, is_defective=True)
            )
            (tmp_path / "root" / name / "ground_truth/spot").mkdir(parents=True, exist_ok=True)
            write(
                tmp_path / "root" / name / "ground_truth/spot" / f"{index}.png",
                draw_part(index)[..., 0] > 100,
            )
    result = run("fit", "variation", "root", "-o", "m")
    assert result.stderr == "Error: root has 2 categories: bolt, nut. Choose one with --category NAME.\n"
    assert (
        run("fit", "variation", "root", "-o", "m", "--category", "nut", "--image-size", "32").exit_code == 0
    )
    assert blemish.load("m").manifest.data.category == "nut"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("None", None),
        ("resnet18", "resnet18"),
        ("1,2,3", [1, 2, 3]),
        ("3,", [3]),
        ("a, 2,false", ["a", 2, False]),
        ("", ""),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ('{"a": 1}', '{"a": 1}'),
        ("True", "True"),
    ],
)
def test_values_of_set(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_images_are_grouped_by_a_column_of_the_csv_file(run: Run, made: Path) -> None:
    table = made / "parts.csv"
    names = sorted(path.name for path in (made / "flat").iterdir())[:6]
    rows = [f"flat/{name},good,{'ab'[number // 3]}" for number, name in enumerate(names)]
    table.write_text("\n".join(["path,label,lot", *rows]), "utf-8")
    result = run("fit", "variation", table, "-o", "m", "--image-size", "32", "--group-by", "lot")
    assert result.exit_code == 0, result.output
    data = blemish.load("m").manifest.data
    assert (data.group_by, sorted(data.groups)) == ("labels", [0, 0, 0, 1, 1, 1])
    assert "The images are of 2 lots or runs only" in result.output


def test_a_group_by_that_is_no_column_is_a_pattern(run: Run, made: Path) -> None:
    result = run("fit", "variation", made / "flat", "-o", "m", "--image-size", "32", "--group-by", "lot")
    assert result.exit_code == 1
    assert "The pattern 'lot' does not match" in result.stderr


def test_cross_and_held_out_images_contradict_each_other(run: Run, made: Path) -> None:
    given = ("--calibrate", "cross", "--hold-out", "0.2")
    result = run("fit", "variation", made / "flat", "-o", "m", "--image-size", "32", *given)
    assert result.exit_code == 2
    assert "With --calibrate cross no image is held out. Leave out --hold-out and --shots." in result.stderr
