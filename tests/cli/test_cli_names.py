"""Names that are not UTF-8, or hold line breaks and control characters, through every command."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from cli_data import defect_mask, draw_part, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names are possible on POSIX only")

Run = Callable[..., Result]

ODD = (os.fsdecode("正常".encode("gbk")), "a\nOK 0.1 (threshold 9) regions 0 b", "\x1b[31mred\x1b[0m", "a\\b")
SHOWN = (
    "\\xd5\\xfd\\xb3\\xa3",
    "a\\u000aOK 0.1 (threshold 9) regions 0 b",
    "\\u001b[31mred\\u001b[0m",
    "a\\\\b",
)


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A data set whose folder, files and defect type have such names."""
    root = tmp_path / ODD[0]
    for index, name in enumerate((*ODD, *map(str, range(6)))):
        write(root / "train" / "good" / f"{name}.png", draw_part(index))
        write(root / "test" / "good" / f"{name}.png", draw_part(100 + index))
        write(root / "test" / ODD[2] / f"{name}.png", draw_part(200 + index, is_defective=True))
        write(root / "ground_truth" / ODD[2] / f"{name}.png", defect_mask())
    return root


def test_names_pass_through_fit_show_evaluate_and_inspect(run: Run, product: Path, tmp_path: Path) -> None:
    result = run(
        "fit", "variation", product, "-o", "m.blemish", "--image-size", "48x64", "--hold-out", "0.05"
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(run("show", "m.blemish", "--json").stdout)
    learned = {name.removesuffix(".png") for name in shown["data"]["images"]}
    assert len(learned) == 9  # and one is held out
    assert learned < {*SHOWN, *map(str, range(6))}
    assert shown["data"]["category"] == SHOWN[0]

    result = run("evaluate", "m.blemish", product, "--report", "report.html", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["by_type"]) == [SHOWN[2]]
    assert "\x1b" not in Path("report.html").read_text("utf-8")
    assert "\x1b" not in run("evaluate", "m.blemish", product).stdout

    folder = product / "test" / "good"
    broken = folder / f"{ODD[0]}{ODD[1]}.png"
    broken.write_text("no image")
    result = run("inspect", "m.blemish", folder, "-o", "maps")
    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines)) == (1, 10)
    shown_folder = str(folder).replace(ODD[0], SHOWN[0])
    assert {line.partition(shown_folder)[2] for line in lines} >= {f"/{name}.png" for name in SHOWN}
    assert result.stderr.startswith(f"Error: {shown_folder}/{SHOWN[0]}{SHOWN[1]}.png is not a PNG, JPEG")
    assert len(result.stderr.splitlines()) == 1
    parsed = [json.loads(line) for line in run("inspect", "m.blemish", folder, "--json").stdout.splitlines()]
    assert {one["path"] for one in parsed} >= {f"{shown_folder}/{name}.png" for name in SHOWN}


def test_names_pass_through_an_update(run: Run, made: Path, tmp_path: Path) -> None:
    options = ("--backbone", "compact:random", "--image-size", "64", "--set", "coreset_ratio=0.5")
    assert run("fit", "patchcore", made / "flat", "-o", "m.blemish", *options).exit_code == 0
    for index, name in enumerate(ODD):
        write(tmp_path / "new" / f"{name}.png", draw_part(900 + index))
    result = run("update", "m.blemish", tmp_path / "new")
    assert result.exit_code == 0, result.output
    images = json.loads(run("show", "m.blemish", "--json").stdout)["data"]["images"]
    assert sorted(images[-4:]) == sorted(f"{name}.png" for name in SHOWN)
