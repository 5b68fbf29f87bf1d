"""`blemish update`: what it prints, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import blemish
from blemish.manifest import GRAPH
from cli_data import draw_part, without_decimals, write
from model_folder import files, stored

Run = Callable[..., Result]


@pytest.fixture
def model(run: Run, made: Path, tmp_path: Path) -> Path:
    data = Path(shutil.copytree(made / "masked", tmp_path / "data"))
    options = ("--backbone", "compact:random", "--image-size", "64", "--set", "coreset_ratio=0.5", "--onnx")
    assert run("fit", "patchcore", data, "-o", tmp_path / "m.blemish", *options).exit_code == 0
    return tmp_path / "m.blemish"


def test_new_images_are_learned_and_the_exported_graph_is_renewed(
    run: Run, model: Path, tmp_path: Path
) -> None:
    for index in (900, 901):
        write(tmp_path / "new" / f"{index}.png", draw_part(index))
    graph = stored(model, GRAPH).read_bytes()
    result = run("update", model, tmp_path / "new", "--accept-ng")
    assert result.exit_code == 0, result.output
    lines = without_decimals(result.stdout).splitlines()
    assert lines[0] == "Learned 2 more images in # s."
    assert lines[1] == (
        f"Highest scores before the update: {tmp_path}/new/901.png (#); {tmp_path}/new/900.png (#)"
    )
    assert lines[2].startswith("Image threshold #, pixel threshold #")
    assert lines[-1] == f"Model: {model}"
    assert stored(model, GRAPH).read_bytes() != graph
    assert blemish.load(model, runtime="onnx").manifest.history.updates[0].added == 2


def test_images_that_are_ng_are_learned_only_if_accepted(run: Run, model: Path, tmp_path: Path) -> None:
    defective = write(tmp_path / "new" / "a.png", draw_part(900, is_defective=True))
    blemish.recalibrate(model, image=2 * blemish.load(model).calibration.image_threshold)
    before = files(model)
    write(tmp_path / "new" / "b.png", draw_part(901))
    result = run("update", model, tmp_path / "new")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "Error: 1 of 2 new images are NG by the present model, whose threshold is "
    )
    assert f"; the highest scores: {defective} (" in result.stderr
    assert result.stderr.endswith(
        "Look at these images, then learn them with --accept-ng (accept_ng=True).\n"
    )
    assert files(model) == before


def test_update_is_undone(run: Run, model: Path, tmp_path: Path) -> None:
    before = blemish.load(model).manifest
    write(tmp_path / "new.png", draw_part(900))
    assert run("update", model, tmp_path / "new.png", "--accept-ng").exit_code == 0
    assert blemish.load(model).manifest != before
    result = run("update", model, "--undo")
    undone = f"Undone: the model before its latest update, learned from {before.data.learned_from} images.\n"
    assert (result.exit_code, result.stdout) == (
        0,
        f"{undone}{before.calibration.describe()}\nModel: {model}\n",
    )
    assert blemish.load(model).manifest == before
    assert run("update", model, "--undo").stdout.startswith("The undo was undone: the model after its latest")
    run("update", model, "--undo")
    assert blemish.load(model, runtime="onnx").manifest == before


def test_what_was_forgotten_is_listed_with_its_images(run: Run, model: Path, tmp_path: Path) -> None:
    missed = write(tmp_path / "missed.png", draw_part(5, is_defective=True))
    result = run("update", model, "--remove-like", missed, "--box", "30,20,12,10")
    assert result.exit_code == 0, result.output
    lines = without_decimals(result.stdout).splitlines()
    assert lines[0].startswith("Removed ")
    assert lines[0].endswith(" training images:")
    assert ".png: " in lines[1]
    assert lines[1].endswith("of width and height")
    assert any(line.startswith("Score # → #, threshold #: ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Nothing to do. Give normal images, a missed defect with --remove-like, or --undo."),
        (("a.png", "--undo"), "--undo takes no images and no other option. Give it alone."),
        (("--undo", "--accept-ng"), "--undo takes no images and no other option. Give it alone."),
        (
            ("a.png", "--box", "1,2,3,4"),
            "--box is the position of the defect of --remove-like. Give both or neither.",
        ),
        (
            ("--remove-like", "a.png", "--box", "1,2,3"),
            "'1,2,3' is not a box. Write left,top,width,height in pixels",
        ),
        (("--remove-like", "a.png", "--box", "1,2,-3,4"), "'1,2,-3,4' is not a box."),
    ],
)
def test_mistakes_are_usage_errors(run: Run, arguments: tuple[str, ...], text: str) -> None:
    result = run("update", "m.blemish", *arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def test_an_unreadable_image_changes_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    before = (model / "manifest.json").read_bytes()
    result = run("update", model, tmp_path / "bad.png")
    assert result.exit_code == 1
    assert "bad.png" in result.output
    assert (model / "manifest.json").read_bytes() == before
