"""`blemish calibrate` with a confidence and a review share, `blemish certify` and `blemish replay`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from blemish.manifest import read_manifest
from cli_data import draw_part, write

Run = Callable[..., Result]

RULES = """\
[[rules]]
name = "spot"
measure = "area_px"
critical = 2000
"""


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "m"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for index in range(6):
        write(tmp_path / "good" / f"{index}.png", draw_part(500 + index))
        write(tmp_path / "bad" / f"{index}.png", draw_part(600 + index, is_defective=True))
    return tmp_path


def test_certify_prints_and_stores_what_is_proved(run: Run, model: Path, images: Path) -> None:
    command = ("certify", model, "--good", images / "good", "--defects", images / "bad")
    result = run(*command, "--miss-rate", "0.4")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *others = result.stdout.splitlines()
    assert first.startswith(
        "6 of 6 defective images are not OK: at most 40 % of such defects are missed (95 %"
    )
    assert first.endswith("The promise of 40 % holds.")
    assert others[0].startswith("Price: of 6 normal images ")
    assert "not tested, other lighting, cameras and products" in others[1]
    assert "6 of 6 defective images" in run("show", model).stdout
    again = run(*command, "--json")
    assert again.exit_code == 3  # 2 % takes 149 images
    values = json.loads(again.stdout)
    assert (values["use"], values["holds"], values["defects"]) == (2, False, 6)


def test_results_say_whether_the_certificate_is_valid(run: Run, model: Path, images: Path) -> None:
    def shown() -> object:
        return json.loads(run("inspect", model, images / "bad" / "0.png", "--json").stdout)["certificate"]

    assert shown() is None
    run("certify", model, "--good", images / "good", "--defects", images / "bad")
    before = shown()
    assert isinstance(before, dict)
    assert (before["valid"], before["defects"], before["missed"]) == (True, 6, 0)
    run("calibrate", model, "--image-threshold", "1e6")
    assert shown() == {**before, "valid": False}
    assert "void: something that decides verdicts was changed" in run("show", model).stdout


def test_a_review_share_gives_a_third_verdict(run: Run, model: Path, images: Path) -> None:
    assert "review threshold" in run("calibrate", model, "--review-share", "0.5").stdout
    calibration = read_manifest(model).calibration
    assert calibration.review_threshold is not None
    run("calibrate", model, "--image-threshold", "1e6")
    result = run("inspect", model, images / "bad" / "0.png")
    assert result.stdout.startswith("REVIEW ")
    assert "is above the review threshold" in result.stdout
    assert "review threshold" not in run("calibrate", model, "--review-share", "0").stdout
    assert read_manifest(model).calibration.review_threshold is None


def test_a_confidence_takes_enough_images(run: Run, model: Path) -> None:
    result = run("calibrate", model, "--false-alarm-rate", "0.01", "--confidence", "0.95")
    assert result.exit_code == 2
    assert "299 independent normal images are needed to keep a rate of 0.01" in result.stderr
    assert run("calibrate", model, "--false-alarm-rate", "0.5", "--confidence", "0.9").exit_code == 0
    assert read_manifest(model).calibration.confidence == 0.9
    assert "A confidence needs a false-alarm rate" in run("calibrate", model, "--confidence", "0.9").stderr


def test_replay_lists_the_verdicts_that_change(run: Run, model: Path, images: Path) -> None:
    results, rules = images / "results.jsonl", images / "new.toml"
    results.write_text(run("inspect", model, images / "good", images / "bad", "--json").stdout, "utf-8")
    rules.write_text(RULES, "utf-8")
    before = (model / "manifest.json").read_bytes()
    shown = run("replay", model, results, "--rules", rules).stdout.splitlines()
    assert [line[:9] for line in shown[:6]] == ["NG → OK /"] * 6
    assert shown[6:] == ["6 of 12 verdicts change.", "  NG → OK: 6"]
    assert run("replay", model, results).stdout == "0 of 12 verdicts change.\n"
    values = [json.loads(line) for line in run("replay", model, results, "--json").stdout.splitlines()]
    assert len(values) == 12
    assert not any(one["score_changed"] for one in values)
    assert (model / "manifest.json").read_bytes() == before
    (images / "bad" / "0.png").unlink()
    assert "0 of 11 verdicts change." in run("replay", model, results).stdout


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", "no json", '{"path": 1, "verdict": "OK", "score": 1.0}', "[" * 9999]
)
def test_what_is_no_result_is_refused(run: Run, model: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "r.jsonl").write_text(text, "utf-8")
    result = run("replay", model, tmp_path / "r.jsonl")
    assert result.exit_code == 1
    assert "Give the file that" in result.stderr
