"""`blemish suspects`, and `fit --exclude` with its list."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import blemish
from cli_data import draw_part, without_decimals, write

Run = Callable[..., Result]
FAST = ("--method", "variation", "--image-size", "48x64", "--rate", "0.001")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Twenty normal parts, one with a defect, and a copy."""
    for index in range(20):
        write(tmp_path / "parts" / f"{index:02}.png", draw_part(index))
    write(tmp_path / "parts" / "20.png", draw_part(20, is_defective=True))
    write(tmp_path / "parts" / "21.png", draw_part(3))
    return tmp_path / "parts"


def test_the_ranking_and_the_copies_are_printed(run: Run, parts: Path) -> None:
    result = run("suspects", parts, *FAST)
    assert result.exit_code == 0, result.output
    assert without_decimals(result.stdout).startswith(
        "22 images: 1 suspected of a defect (q ≤ #), 1 with the same bytes as another, 0 near-copies, 0 unreadable.\n"
        "Every image was scored by variation that learned from the other folds of 5, in two passes.\n"
        "\n"
        "   score "
    )
    rows = [line.split() for line in result.stdout.splitlines() if line.endswith(".png")]
    assert rows[0][0] == "*"
    assert rows[0][-1] == str(parts / "20.png")
    assert f"Same bytes: {parts / '03.png'}, {parts / '21.png'}\n" in result.stdout


def test_the_list_is_what_fit_leaves_out(run: Run, parts: Path, tmp_path: Path) -> None:
    result = run("suspects", parts, *FAST, "--write", "list.csv", "-o", "report.html")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("Report: report.html\nList: list.csv\n")
    assert "data:image/webp" in (tmp_path / "report.html").read_text("utf-8")
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text("utf-8-sig").splitlines()))
    assert [Path(row["path"]).name for row in rows] == ["20.png", "21.png"]
    assert all(Path(row["path"]).is_absolute() for row in rows)
    fitted = run("fit", "variation", parts, "-o", "m", "--image-size", "48x64", "--exclude", "list.csv")
    assert fitted.exit_code == 0, fitted.output
    assert ", excluded 2.\n" in fitted.stdout
    data = blemish.load(tmp_path / "m").manifest.data
    assert (data.learned_from + data.held_out, data.excluded) == (20, 2)
    assert "excluded          2 images\n" in run("show", "m").stdout


def test_an_edited_list_is_not_overwritten(run: Run, parts: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,reason\nedited by hand\n")
    result = run("suspects", parts, *FAST, "--write", table, "-o", "report.html")
    assert result.exit_code == 2
    assert (
        f"{table} exists, and a list may have been edited by hand. Name another file for --write, or remove it.\n"
        in result.stderr
    )
    assert table.read_text() == "path,reason\nedited by hand\n"
    assert not (tmp_path / "report.html").exists(), "it was noticed only after the search"


def test_json(run: Run, parts: Path) -> None:
    result = run("suspects", parts, *FAST, "--json", "--rate", "0.05", "--seed", "3")
    found = json.loads(result.stdout)
    assert (found["images"], found["rate"], found["suspected"]) == (22, 0.05, 1)
    assert found["ranking"][0]["path"] == str(parts / "20.png")
    assert len(found["ranking"]) == 21
    assert found["copies"] == [{"paths": [str(parts / "03.png"), str(parts / "21.png")], "correlation": None}]
    assert found["unreadable"] == []


def test_a_model_scores_what_it_did_not_learn(run: Run, parts: Path, model: Path) -> None:
    result = run("suspects", parts, "-m", model)
    assert result.exit_code == 0, result.output
    first = next(line for line in result.stdout.splitlines() if line.endswith(".png"))
    assert first.split()[-1] == str(parts / "20.png")


def test_relative_paths_start_at_the_list_or_at_the_data(run: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "own.csv").write_text("path\n05.png\n../parts/06.png\n")
    options = ("-o", "m", "--image-size", "48x64", "--exclude", "lists/own.csv")
    assert run("fit", "variation", parts, *options).exit_code == 0
    data = blemish.load(tmp_path / "m").manifest.data
    assert data.excluded == 2
    assert not {"05.png", "06.png"} & set(data.images)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "path\ngone.png\n",
            "is to be excluded, but is not among the images to learn from. Correct the path",
        ),
        ("path\nlist.csv\n", "list.csv is to be excluded, but is not among the images to learn from."),
        ("image\n05.png\n", "list.csv, line 1: no column 'path' among 'image'."),
        ("", "list.csv, line 1: no column 'path' among nothing."),
    ],
)
def test_a_wrong_list_is_one_error(
    run: Run, parts: Path, tmp_path: Path, content: str, expected: str
) -> None:
    (tmp_path / "list.csv").write_text(content)
    result = run("fit", "variation", parts, "-o", "m", "--exclude", "list.csv")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert expected in result.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are those of POSIX")
def test_odd_names_can_be_left_out(run: Run, parts: Path, tmp_path: Path) -> None:
    (parts / "20.png").rename(parts / "a\nb\\c.png")
    run("suspects", parts, *FAST, "--write", "list.csv")
    result = run("fit", "variation", parts, "-o", "m", "--image-size", "48x64", "--exclude", "list.csv")
    assert result.exit_code == 0, result.output
    assert blemish.load(tmp_path / "m").manifest.data.excluded == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-m", "m", "--method", "pca"), "--model has its own method, arguments and input size."),
        (("-m", "m", "--set", "tolerance=0.1"), "--model has its own method, arguments and input size."),
        (
            ("--write", "a.csv", "-o", "./a.csv"),
            "a.csv is read, or written twice. Name another file for --write or --report.",
        ),
        (
            ("--set", "backbone=a", "--backbone", "b"),
            "--backbone and --set backbone=… are the same argument.",
        ),
        (("--rate", "0"), "Invalid value for '--rate'"),
        (("--rate", "nan"), "Invalid value for '--rate'"),
    ],
)
def test_mistakes_on_the_command_line(run: Run, parts: Path, options: tuple[str, ...], expected: str) -> None:
    result = run("suspects", parts, *options)
    assert result.exit_code == 2
    assert expected in result.stderr


def test_the_data_are_not_overwritten(run: Run, parts: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{parts / '00.png'},good\n")
    assert run("suspects", table, "--write", table).exit_code == 2
    assert table.read_text().startswith("path,label\n")


def test_the_model_is_not_overwritten(run: Run, parts: Path, model: Path) -> None:
    before = (model / "manifest.json").read_bytes()
    result = run("suspects", parts, "-m", model, "--write", model / "manifest.json")
    assert result.exit_code == 2
    assert "manifest.json is read, or written twice." in result.stderr
    assert (model / "manifest.json").read_bytes() == before


def test_too_few_images(run: Run, tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "few" / f"{index}.png", draw_part(index))
    result = run("suspects", "few", *FAST)
    assert result.exit_code == 1
    assert "Found 3 different images that can be read, but at least 5 are needed" in result.stderr
