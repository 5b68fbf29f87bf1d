"""Mistakes on the command line that would cost files or images, or pass in silence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from blemish.manifest import FILE
from cli_data import draw_part, write

Run = Callable[..., Result]


@pytest.mark.parametrize("other", ["table", "manifest", "report"])
def test_evaluate_replaces_nothing_that_it_reads_or_writes(
    run: Run, made: Path, model: Path, tmp_path: Path, other: str
) -> None:
    table = tmp_path / "labels.csv"
    part = made / "masked" / "train" / "good" / "0.png"
    table.write_text(f"path,label,split\n{part},good,test\n")
    target = {"table": table, "manifest": model / FILE, "report": tmp_path / "r.html"}[other]
    kept = target.read_bytes() if target.exists() else b""
    options = ("--report", target) if other == "report" else ()
    result = run("evaluate", model, table, "--csv", target, *options)
    assert result.exit_code == 2
    assert "is read, or written twice. Name another file for --csv or --report." in result.output
    assert (target.read_bytes() if target.exists() else b"") == kept


def test_evaluate_takes_all_normal_images_of_plain_folders_that_were_not_learned(
    run: Run, model: Path, tmp_path: Path
) -> None:
    for index in range(12):
        write(tmp_path / "parts" / "OK" / f"{index:02}.png", draw_part(100 + index))
    for index in range(3):
        write(tmp_path / "parts" / "NG" / f"{index}.png", draw_part(index, is_defective=True))
    foreign = run("evaluate", model, tmp_path / "parts")
    assert foreign.stdout.startswith("images            15 (12 normal, 3 anomalous)\n"), foreign.output
    options = ("-o", tmp_path / "own.model", "--image-size", "48x64")
    learned = run("fit", "variation", tmp_path / "parts", *options)
    assert "2 of 12 normal images, every fifth one, are left for evaluation.\n" in learned.stdout
    own = run("evaluate", tmp_path / "own.model", tmp_path / "parts")
    assert own.stdout.startswith("images            5 (2 normal, 3 anomalous)\n"), own.output


def test_show_prints_a_foreign_manifest_without_control_characters(run: Run, model: Path) -> None:
    values = json.loads((model / FILE).read_text())
    values |= {"method": "a\x1b[2J", "blemish": "\x1b[31m", "arguments": {"\x1b]0;x\x07\nNG": "\x1b[2J\n"}}
    (model / FILE).write_text(json.dumps(values))
    shown = run("show", model).stdout
    assert "\x1b" not in shown
    assert not any(line.startswith("NG") for line in shown.splitlines())


def test_demo_overwrites_no_other_product(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "own" / "plate" / "train" / "good" / "mine.png"
    write(mine, draw_part(1))
    result = run("demo", "-o", tmp_path / "own")
    assert result.exit_code == 1
    assert "plate holds other files, such as" in result.output
    assert [path for path in (tmp_path / "own").rglob("*") if path.is_file()] == [mine]


def test_an_empty_argument_is_not_the_present_folder(run: Run, model: Path) -> None:
    result = run("inspect", model, "")
    assert result.exit_code == 2
    assert "An argument is empty" in result.output
