"""Rules from TOML: what is read, and errors that name line and entry."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.data.mask_runs import MaskRuns
from blemish.errors import DataError
from blemish.rules import Rules, read_rules
from blemish.rules.toml import line_of
from blemish.types import Mask

RULES = """\
default = "critical"  # line 1

[accepted]
minor = 3

[[zones]]
name = "seal"
polygon = [[1, 2], [30, 2], [30.5, 20]]

[[zones]]
name = "print"
mask = "print.png"
ignore = true

[[rules]]
name = "划痕"
zones = ["seal", "elsewhere"]
measure = "length_px"
minor = 3
major = 20.5

[[allowances]]
name = "dust"
where = { area_px_max = 5, edge_distance_px_min = 2 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask = np.zeros((20, 40), np.uint8)
    mask[3:9, 4:11] = 255
    cv2.imwrite(str(tmp_path / "print.png"), mask)
    return tmp_path


def read(folder: Path, text: str) -> Rules:
    (folder / "rules.toml").write_text(text, "utf-8")
    return read_rules(folder / "rules.toml")


def test_everything_is_read(folder: Path) -> None:
    rules = read(folder, RULES)
    assert rules.default == "critical"
    assert (rules.accepted.major, rules.accepted.minor, rules.accepted.demerits) == (0, 3, None)
    assert rules.zones[0].polygon == ((1, 2), (30, 2), (30.5, 20))
    assert rules.zones[1].mask is None
    assert rules.zones[1].pixels is not None
    assert rules.zones[1].pixels.to_mask().sum() == 6 * 7
    assert rules.rules[0].limits == {"minor": 3, "major": 20.5}
    assert rules.allowances[0].where == {"area_px_max": 5, "edge_distance_px_min": 2}
    assert Rules.from_json(rules.model_dump_json()) == rules


def test_no_rules_at_all_are_rules(folder: Path) -> None:
    assert read(folder, "") == Rules()


def test_the_description_says_what_was_read(folder: Path) -> None:
    assert read(folder, RULES).describe().splitlines() == [
        "Zone seal.",
        "Zone print: nothing there counts.",
        "Rule 划痕: length_px minor ≥ 3 and major ≥ 20.5, in seal and elsewhere.",
        "Allowed as dust if area_px ≤ 5 and edge_distance_px ≥ 2, everywhere.",
        "NG: a critical region, 1 or more major ones, 4 or more minor ones.",
        "A region that no rule is about is critical.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('default = "critical"', 'default = "fatal"', 'line 1: default must be "minor", "major" or "critical", got'),
        ("minor = 3\n\n", "minor = -3\n\n", "line 4: accepted.minor must be a whole number, not negative, got -3"),
        ("minor = 3\n\n", "minor = 3\nmajor = 1.5\n\n", "line 5: accepted.major must be a whole number"),
        ("minor = 3\n\n", "minr = 3\n\n", "line 4: accepted.minr is unknown"),
        ("polygon = [[1, 2]", 'polygon = [["1", 2]', "line 8: zones[0].polygon must be a list of at least three"),
        ("polygon = [[1, 2], ", "polygon = [", "line 8: zones[0].polygon must have at least three points"),
        ('mask = "print.png"', "", "line 10: zones[1] needs either a polygon or a mask"),
        ('mask = "print.png"', 'mask = "x.png"', "line 12: zones[1].mask: "),
        ('name = "print"', 'name = "seal"', "line 11: zones[1].name is 'seal' for a second time"),
        ('name = "print"', 'name = "elsewhere"', "line 11: zones[1].name is 'elsewhere' for a second time"),
        ("length_px", "length", "line 18: rules[0].measure must be one of area_px, "),
        ("length_px", "edge_distance_px", "line 18: rules[0].measure must be one of area_px, "),
        ('"seal", "else', '"saal", "else', "line 17: rules[0].zones names 'saal', which is none of print, seal"),
        ("major = 20.5", "major = 2", "line 15: rules[0] must have minor ≤ major ≤ critical"),
        ("minor = 3\nmajor = 20.5", "", "line 15: rules[0] needs at least one of minor, major and critical"),
        ("major = 20.5", "where = {area = 3}", "line 20: rules[0].where.area must be one of area_px, "),
        ("major = 20.5", "where = {area_px_max = 3}", "line 20: rules[0].where.area_px_max would make a growing"),
        ("area_px_max", "area_px_min", "line 24: allowances[0].where.area_px_min would make a growing defect less"),
        ("{ area_px_max = 5, edge_distance_px_min = 2 }", "{}", "line 22: allowances[0] needs at least one condition"),
        ("major = 20.5", "major = inf", "line 20: rules[0].major must be a number above 0"),
        ("major = 20.5", "major = 2020-01-01", "line 20: rules[0].major must be a number above 0"),
    ],
)  # fmt: skip
def test_an_error_names_line_and_entry(folder: Path, old: str, new: str, text: str) -> None:
    assert old in RULES
    with pytest.raises(DataError) as error:
        read(folder, RULES.replace(old, new, 1))
    assert text in str(error.value)
    assert str(error.value).startswith(f"{folder / 'rules.toml'} is wrong:\n  line ")


def test_several_errors_are_named_together(folder: Path) -> None:
    text = RULES.replace("minor = 3\n\n", "minor = -3\n\n").replace("length_px", "length")
    with pytest.raises(DataError, match=r"(?s)line 4: accepted\.minor.*line 18: rules\[0\]\.measure"):
        read(folder, text)


def test_what_is_no_toml_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"is not valid TOML: Invalid value .* Correct it\.$"):
        read(folder, "default = ")
    for text in ("a = " + "[" * 5000, "a = " + "9" * 5000):
        with pytest.raises(DataError, match="is not valid TOML: "):
            read(folder, text)
    (folder / "rules.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_rules(folder / "rules.toml")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_rules(folder / "absent.toml")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_rules(folder)


def test_a_huge_file_is_not_read(folder: Path) -> None:
    (folder / "rules.toml").write_bytes(b"#" * (2**22 + 1))
    with pytest.raises(DataError, match="is larger than 4 MiB"):
        read_rules(folder / "rules.toml")


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet='[]ruleszon.=\n" {}1-_#', max_size=80))
def test_any_text_gives_rules_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(text, "utf-8")
    try:
        read_rules(path)
    except DataError as error:
        said = str(error)
    else:
        said = str(path)
    assert said.startswith(str(path))


@settings(max_examples=200)
@given(st.text(max_size=40), st.text(alphabet="rules[]0123456789.,", max_size=20))
def test_every_name_has_a_line(text: str, name: str) -> None:
    assert 1 <= line_of(text, name) <= max(1, len(text.splitlines()))


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 9))))
def test_runs_give_the_mask_back(mask: Mask) -> None:
    runs = MaskRuns.of(mask)
    assert (runs.to_mask() == mask).all()
    assert MaskRuns.from_json(runs.model_dump_json()) == runs


@pytest.mark.parametrize("run", [(-1, 0, 1), (4, 0, 1), (0, -1, 1), (0, 5, 2), (0, 0, 0)])
def test_runs_outside_the_mask_are_refused(run: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="a run leaves the mask"):
        MaskRuns(height=4, width=6, runs=(run,))
