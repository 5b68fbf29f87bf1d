"""`blemish rules`: rules are checked, set and removed; inspections follow them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import blemish
from blemish.rules import read_rules
from cli_data import draw_part, write
from markdown_text import code_blocks, read

Run = Callable[..., Result]

RULES = """\
[accepted]
minor = 1

[[rules]]
name = "spot"
measure = "area_px"
minor = 20
critical = 2000
"""


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "m"))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(RULES, "utf-8")
    return path


def test_check_says_what_the_rules_mean(run: Run, rules: Path) -> None:
    result = run("rules", "check", rules)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Rule spot: area_px minor ≥ 20 and critical ≥ 2000, everywhere.",
        "NG: a critical region, 1 or more major ones, 2 or more minor ones.",
        "A region that no rule is about is major.",
    ]


def test_check_refuses_wrong_rules(run: Run, rules: Path) -> None:
    rules.write_text(RULES.replace("area_px", "surface"), "utf-8")
    result = run("rules", "check", rules)
    assert result.exit_code == 1
    assert "line 6: rules[0].measure must be one of" in result.stderr


def test_a_model_judges_by_rules_and_again_without(
    run: Run, model: Path, rules: Path, tmp_path: Path
) -> None:
    image = write(tmp_path / "new.png", draw_part(300, is_defective=True))
    assert run("inspect", model, image).stdout.startswith("NG ")
    assert run("rules", "set", model, rules).exit_code == 0
    (found,) = map(json.loads, run("inspect", model, image, "--json").stdout.splitlines())
    assert (found["verdict"], found["severity"], found["reasons"]) == ("OK", "minor", [])
    assert found["regions"][0]["grade"]["rule"] == "spot"
    assert "Rule spot: area_px minor ≥ 20" in run("show", model).stdout
    assert run("rules", "remove", model).stdout == f"{model} judges by its score alone.\n"
    assert run("inspect", model, image).stdout.startswith("NG ")


def test_a_saved_model_keeps_its_rules(model: Path, rules: Path, tmp_path: Path) -> None:
    blemish.set_rules(model, read_rules(rules))
    copy = blemish.load(model).save(tmp_path / "again")
    assert blemish.load(copy).manifest.rules == read_rules(rules)


def test_fail_on_not_ok(run: Run, model: Path, rules: Path, tmp_path: Path) -> None:
    image = write(tmp_path / "new.png", draw_part(300, is_defective=True))
    assert run("inspect", model, image, "--fail-on", "not-ok").exit_code == 3
    assert run("rules", "set", model, rules).exit_code == 0
    assert run("inspect", model, image, "--fail-on", "not-ok").exit_code == 0


def test_wrong_rules_leave_the_model_as_it_is(run: Run, model: Path, rules: Path) -> None:
    before = (model / "manifest.json").read_bytes()
    rules.write_text("default = 1", "utf-8")
    assert run("rules", "set", model, rules).exit_code == 1
    assert (model / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("corners", ["9", "9x", "2x5", "9 x 6", "-9x6", "٩x6"])
def test_corners_must_be_two_numbers(run: Run, tmp_path: Path, corners: str) -> None:
    image = write(tmp_path / "board.png", draw_part(1))
    result = run("rules", "scale", image, "--corners", corners, "--square-mm", "5")
    assert result.exit_code == 2
    assert "is not COLUMNSxROWS" in result.stderr
    assert (
        run("rules", "scale", image, "--corners", "9x6", "--square-mm", "5").exit_code == 1
    )  # there is no board


def test_the_example_of_the_docs_is_valid(tmp_path: Path) -> None:
    (example,) = code_blocks(read("docs/rules.md"), "toml")
    for name in ("print.png", "golden.png", "train/good/0.png"):
        write(tmp_path / name, draw_part(1))
    (tmp_path / "bottle.toml").write_text(example, "utf-8")
    assert len(read_rules(tmp_path / "bottle.toml").rules) == 2
