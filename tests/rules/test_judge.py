"""Verdicts by rules: severities by zone and size, what is accepted, and that more anomaly never improves one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.calibration import Calibration
from blemish.camera.scale import Scale
from blemish.data.mask_runs import MaskRuns
from blemish.errors import DataError
from blemish.inspection.result import Inspection
from blemish.inspection.verdict import Judge
from blemish.reasons import Reason
from blemish.rules.record import ELSEWHERE, Accepted, Allowance, Rule, Rules, Zone
from blemish.types import Map, Verdict

CALIBRATION = Calibration.from_normal([1.0, 2.0], [1.0, 2.0], [0.0, 0.0], 0.5)
"""Image threshold and pixel threshold are 2; a relative peak of 1 is 2."""
LENGTH = Rule(name="scratch", measure="length_px", minor=3.0, major=6.0, critical=12.0)
LEFT = Zone(name="left", polygon=((0, 0), (9, 0), (9, 19), (0, 19)))
ORDER = {"OK": 0, "REVIEW": 1, "NG": 2}


def drawn(*boxes: tuple[int, int, int, int], value: float = 4.0) -> Map:
    """A map (20, 40) of 0 with boxes (x, y, width, height)."""
    anomaly_map = np.zeros((20, 40), np.float32)
    for x, y, width, height in boxes:
        anomaly_map[y : y + height, x : x + width] = value
    return anomaly_map


def judged(rules: Rules, anomaly_map: Map, score: float | None = None) -> Inspection:
    image = np.zeros((*anomaly_map.shape, 3), np.uint8)
    value = float(anomaly_map.max()) if score is None else score
    return Judge(CALIBRATION, rules).judge(value, anomaly_map, image, None)


@pytest.mark.parametrize(
    ("length", "severity", "verdict"),
    [(2, "within_spec", "OK"), (3, "minor", "NG"), (6, "major", "NG"), (12, "critical", "NG")],
)
def test_the_highest_limit_that_is_reached_decides(length: int, severity: str, verdict: Verdict) -> None:
    found = judged(Rules(rules=(LENGTH,)), drawn((5, 5, length, 1)))
    assert (found.severity, found.verdict) == (severity, verdict)
    (grade,) = found.grades
    assert (grade.rule, grade.zones, grade.measures) == ("scratch", (ELSEWHERE,), {"length_px": length})
    assert grade.margin == pytest.approx(length / 3)


def test_a_region_that_no_rule_is_about_has_the_default_severity() -> None:
    for default in ("minor", "major", "critical"):
        (grade,) = judged(Rules(default=default), drawn((1, 1, 2, 2))).grades
        assert (grade.severity, grade.rule, grade.margin) == (default, None, None)


def test_a_region_is_judged_in_every_zone_that_it_touches() -> None:
    strict = Rule(name="seal", zones=("left",), measure="area_px", critical=4.0)
    rules = Rules(zones=(LEFT,), rules=(LENGTH, strict))
    inside, across, outside = (judged(rules, drawn((x, 5, 2, 2))) for x in (2, 9, 12))
    assert [found.severity for found in (inside, across, outside)] == ["critical", "critical", "within_spec"]
    assert across.grades[0].zones == ("left", ELSEWHERE)
    assert across.grades[0].area == {"left": 2, ELSEWHERE: 2}


def test_what_leaves_the_zone_of_its_rule_has_the_default_severity() -> None:
    rules = Rules(zones=(LEFT,), rules=(Rule(name="a", zones=("left",), measure="area_px", major=50.0),))
    assert [judged(rules, drawn((x, 5, 2, 2))).severity for x in (2, 9, 20)] == [
        "within_spec",
        "major",
        "major",
    ]


@pytest.mark.parametrize(
    ("accepted", "minor", "major", "codes"),
    [
        (Accepted(minor=2), 2, 0, []),
        (Accepted(minor=2), 3, 0, ["too_many_minor"]),
        (Accepted(minor=9), 0, 1, ["too_many_major"]),
        (Accepted(minor=9, major=1), 3, 1, []),
        (Accepted(minor=9, major=1, demerits=80.0), 3, 1, ["demerits"]),
        (Accepted(minor=9, major=1, demerits=81.0), 3, 1, []),
    ],
)
def test_what_is_accepted(accepted: Accepted, minor: int, major: int, codes: list[str]) -> None:
    boxes = [(5 * i, 2, 3, 1) for i in range(minor)] + [(8 * i, 9, 6, 1) for i in range(major)]
    found = judged(Rules(rules=(LENGTH,), accepted=accepted), drawn(*boxes))
    assert [reason.code for reason in found.reasons] == codes
    assert found.verdict == ("NG" if codes else "OK")


def test_the_area_of_all_regions_of_a_zone() -> None:
    def rules(limit: float) -> Rules:
        zone = LEFT.changed(total_area_px=limit)
        return Rules(zones=(zone,), allowances=(Allowance(name="any", where={"area_px_max": 99.0}),))

    anomaly_map = drawn((1, 1, 2, 2), (1, 9, 2, 2), (9, 15, 2, 2), (20, 5, 5, 5))
    assert judged(rules(11.0), anomaly_map).verdict == "OK"
    found = judged(rules(10.0), anomaly_map)
    assert (found.verdict, [reason.code for reason in found.reasons]) == ("NG", ["total_area"])
    assert found.reason == "area of all regions in left: 10 px (NG from 10 on)"


def test_an_allowance_covers_what_meets_all_its_conditions() -> None:
    dust = Allowance(name="dust", where={"area_px_max": 4.0, "peak_max": 2.5, "edge_distance_px_min": 1.0})
    cases = [drawn((5, 5, 2, 2)), drawn((5, 5, 3, 2)), drawn((5, 5, 2, 2), value=5.5), drawn((0, 5, 2, 2))]
    found = [judged(Rules(allowances=(dust,)), one).grades[0] for one in cases]
    assert [grade.severity for grade in found] == ["within_spec", "major", "major", "major"]
    assert found[0].rule == "dust"


def test_an_allowed_region_does_not_clear_another() -> None:
    """Suppression is per region, never per image."""
    rules = Rules(allowances=(Allowance(name="dust", where={"area_px_max": 4.0}),))
    found = judged(rules, drawn((5, 5, 2, 2), (20, 5, 4, 4)))
    assert [grade.severity for grade in found.grades] == ["within_spec", "major"]
    assert found.verdict == "NG"


def test_a_rule_with_conditions_does_not_allow_what_is_below_its_limits() -> None:
    rule = Rule(name="long", measure="length_px", critical=10.0, where={"aspect_min": 3.0})
    assert judged(Rules(rules=(rule,)), drawn((5, 5, 5, 1))).severity == "major"
    assert judged(Rules(rules=(rule,)), drawn((5, 5, 11, 1))).severity == "critical"
    assert judged(Rules(rules=(rule, LENGTH)), drawn((5, 5, 11, 11))).severity == "critical"  # 15 long


def test_the_distance_to_the_border_of_a_zone() -> None:
    near = Rule(
        name="near", zones=("left",), measure="area_px", critical=1.0, where={"border_distance_px_max": 2.0}
    )
    rules = Rules(zones=(LEFT,), rules=(near, LENGTH))
    found = {x: judged(rules, drawn((x, 9, 1, 1))).severity for x in (9, 8, 7, 6, 1)}
    assert found == {9: "critical", 8: "critical", 7: "critical", 6: "within_spec", 1: "within_spec"}


def test_the_ceiling_is_never_allowed() -> None:
    rules = Rules(ceiling=2.5, allowances=(Allowance(name="any", where={"area_px_max": 99.0}),))
    assert judged(rules, drawn((5, 5, 2, 2), value=4.9)).severity == "within_spec"
    assert judged(rules, drawn((5, 5, 2, 2), value=5.0)).severity == "major"


def test_nothing_counts_in_an_ignored_zone() -> None:
    ignored = Zone(name="print", polygon=((4, 4), (12, 4), (12, 12), (4, 12)), ignore=True)
    found = judged(Rules(zones=(ignored,), rules=(LENGTH,)), drawn((5, 5, 6, 6)))
    assert (found.verdict, found.regions) == ("OK", ())
    assert not found.defect_mask.any()
    beside = judged(Rules(zones=(ignored,), rules=(LENGTH,)), drawn((5, 5, 6, 6), (20, 5, 13, 1)))
    assert (beside.verdict, beside.severity, len(beside.regions)) == ("NG", "critical", 1)


def test_all_ignored_is_ok() -> None:
    mask = MaskRuns.of(np.ones((20, 40), np.bool_))
    found = judged(Rules(zones=(Zone(name="all", pixels=mask, ignore=True),)), drawn((5, 5, 6, 6)))
    assert found.verdict == "OK"


def test_a_mask_of_another_size_is_refused() -> None:
    rules = Rules(zones=(Zone(name="seal", pixels=MaskRuns.of(np.ones((4, 5), np.bool_))),))
    with pytest.raises(
        DataError, match=r"The mask of the zone seal is for images of 4 × 5 pixels .* has 20 × 40\."
    ):
        judged(rules, drawn())


def test_a_high_score_without_a_region_is_for_review() -> None:
    found = judged(Rules(rules=(LENGTH,)), drawn((3, 3, 1, 1), value=1.5), score=9.0)
    assert (found.verdict, [reason.code for reason in found.reasons]) == ("REVIEW", ["no_region"])
    assert [(region.x, region.y, region.area) for region in found.regions] == [(3, 3, 1)]


def test_merged_regions_are_one() -> None:
    parts = drawn((5, 5, 4, 1), (11, 5, 4, 1))
    assert judged(Rules(rules=(LENGTH,)), parts).severity == "minor"
    assert judged(Rules(rules=(LENGTH,), merge_px=2), parts).severity == "major"


def test_reasons_are_in_both_languages() -> None:
    (reason,) = judged(Rules(rules=(LENGTH,)), drawn((5, 5, 13, 1))).reasons
    assert reason == Reason("critical", reason.render)
    assert reason.to_dict() == {"code": "critical", "en": "critical regions: 1", "zh": "致命缺陷：1 处"}


def test_json_holds_the_grades() -> None:
    values = judged(Rules(rules=(LENGTH,)), drawn((5, 5, 3, 1))).to_dict()
    assert values["severity"] == "minor"
    assert values["regions"][0]["grade"] == {
        "severity": "minor",
        "borderline": False,
        "zones": ["elsewhere"],
        "rule": "scratch",
        "margin": 1.0,
        "measures": {"length_px": 3.0},
    }


names = st.sampled_from(["area_px", "length_px", "peak", "mass"])
limits = st.lists(st.floats(0.5, 30), min_size=3, max_size=3).map(sorted)
zones = st.sampled_from([(), ("left",), (ELSEWHERE,)])


@st.composite
def rule_sets(draw: Any) -> Rules:
    rules = [
        Rule(name=f"r{i}", zones=draw(zones), measure=draw(names), minor=low, major=middle, critical=high)
        for i, (low, middle, high) in enumerate(draw(st.lists(limits, max_size=3)))
    ]
    near = [
        Rule(
            name="near",
            measure="area_px",
            critical=2.0,
            where={"edge_distance_px_max": draw(st.floats(0, 4))},
        )
    ][: draw(st.integers(0, 1))]
    allowances = [
        Allowance(name=f"a{i}", zones=draw(zones), where={f"{draw(names)}_max": draw(st.floats(0.5, 30))})
        for i in range(draw(st.integers(0, 2)))
    ]
    return Rules(
        zones=(LEFT,),
        rules=tuple(rules + near),
        allowances=tuple(allowances),
        default=draw(st.sampled_from(["minor", "major", "critical"])),
        ceiling=draw(st.sampled_from([None, 2.0])),
    )


@settings(deadline=None, max_examples=300)
@given(
    rule_sets(),
    arrays.arrays(np.float32, (20, 20), elements=st.sampled_from([0.0, 0.0, 0.0, 3.0, 5.0])),
    arrays.arrays(np.float32, (20, 20), elements=st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 4.0])),
)
def test_more_anomaly_never_improves_a_verdict(rules: Rules, anomaly_map: Map, more: Map) -> None:
    """Also where regions grow together; the number of minor regions that is accepted is 0 here."""
    before, after = judged(rules, anomaly_map), judged(rules, anomaly_map + more)
    assert ORDER[after.verdict] >= ORDER[before.verdict]


@settings(deadline=None, max_examples=100)
@given(
    rule_sets(),
    arrays.arrays(np.float32, (20, 20), elements=st.sampled_from([0.0, 0.0, 3.0])),
    st.integers(1, 18),
)
def test_an_ignored_zone_changes_nothing_outside_it(rules: Rules, anomaly_map: Map, column: int) -> None:
    anomaly_map[:, column] = 0  # no region crosses the border
    corners = ((column, 0), (99, 0), (99, 99), (column, 99))
    ignored = rules.changed(zones=(*rules.zones, Zone(name="off", polygon=corners, ignore=True)))
    before = judged(rules, anomaly_map)
    after = judged(ignored, anomaly_map)
    kept = [(one, grade.severity) for one, grade in zip(before.regions, before.grades, strict=True)]
    left = [(one, severity) for one, severity in kept if one.x < column]
    assert left == [(one, grade.severity) for one, grade in zip(after.regions, after.grades, strict=True)]


def test_millimetres_with_their_guard_bands() -> None:
    """8 px long: 4 mm, with a standard uncertainty of √2 · 0.5 px · 0.5 mm and 1 %."""
    scale = Scale(mm_per_pixel=0.5, uncertainty=0.01)
    sigma = float(np.hypot(2**0.5 * 0.25, 0.04))
    limits = {
        4 - 1.65 * sigma: ("NG", False),
        4 - 1.63 * sigma: ("REVIEW", True),
        4 + 1.63 * sigma: ("REVIEW", True),
        4 + 1.65 * sigma: ("OK", False),
    }
    for limit, expected in limits.items():
        rules = Rules(scale=scale, rules=(Rule(name="a", measure="length_mm", critical=limit),))
        found = judged(rules, drawn((5, 5, 8, 1)))
        assert (found.verdict, found.grades[0].is_borderline) == expected
        assert found.grades[0].measures == {"length_mm": pytest.approx(4.0)}
    assert found.grades[0].area_mm2 == {ELSEWHERE: 2.0}


def test_a_borderline_region_says_so() -> None:
    rules = Rules(scale=Scale(mm_per_pixel=0.5), rules=(Rule(name="a", measure="length_mm", critical=4.0),))
    codes = [reason.code for reason in judged(rules, drawn((5, 5, 8, 1))).reasons]
    assert codes == ["critical", "borderline"]


def test_areas_in_square_millimetres_of_a_zone() -> None:
    zone = LEFT.changed(total_area_mm2=3.0)
    allowance = Allowance(name="any", where={"area_mm2_max": 99.0})
    rules = Rules(scale=Scale(mm_per_pixel=0.5), zones=(zone,), allowances=(allowance,))
    assert judged(rules, drawn((1, 1, 3, 4))).verdict == "NG"
    assert judged(rules, drawn((1, 1, 3, 3), (20, 5, 5, 5))).verdict == "OK"


def test_millimetres_need_a_scale() -> None:
    with pytest.raises(ValueError, match=r"rules\[0\]\.measure needs the size of a pixel: add \[scale\]"):
        Rules(rules=(Rule(name="a", measure="length_mm", critical=4.0),))
