"""Grades regions: the severity of each by the rules of all zones that it touches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blemish.regions import Region
from blemish.rules.measures import Measurer, area_mm2
from blemish.rules.record import SEVERITIES, Clause, Rule, Rules, Severity
from blemish.rules.zones import ZoneMaps

GUARD: Mapping[Severity, float] = {"critical": 1.64, "major": 1.0, "minor": 0.0}
"""Standard uncertainties by which a measure may be below a limit and still count as reaching it."""


@dataclass(frozen=True, slots=True)
class Grade:
    """How serious a region is, and why."""

    severity: Severity
    """The severity that cannot be excluded: a measure counts with its guard band."""
    sure: Severity
    """The severity that is certain: below `severity` if a measure is closer to a limit than its guard band."""
    zones: tuple[str, ...]
    """Those that it touches."""
    rule: str | None
    """Name of the rule that decided, or of the allowance; None: no rule is about it, so it has the default severity."""
    margin: float | None
    """The largest ratio of a measure to the lowest limit for it; 1 and more is out of specification. None without a
    limit."""
    measures: Mapping[str, float]
    """The values that rules compared."""
    area: Mapping[str, int]
    """Pixels in each zone."""
    area_mm2: Mapping[str, float]
    """Area in each zone in mm²; empty without a scale."""

    @property
    def is_borderline(self) -> bool:
        """Whether the uncertainty of a measure decides."""
        return self.severity != self.sure

    def to_dict(self) -> dict[str, Any]:
        """The grade as values that JSON can hold."""
        return {
            "severity": self.severity,
            "borderline": self.is_borderline,
            "zones": list(self.zones),
            "rule": self.rule,
            "margin": self.margin,
            "measures": dict(self.measures),
        }


@dataclass(frozen=True, slots=True)
class Grader:
    """Grades regions of images of one size.

    A region has the highest severity of all limits that it reaches, in any zone that it touches. Below all limits it is
    within the specification if, in each of these zones, a rule without conditions or an allowance is about it;
    otherwise it has the default severity.
    """

    rules: Rules
    zones: ZoneMaps
    measurer: Measurer

    def grades(self, regions: Sequence[Region]) -> tuple[Grade, ...]:
        """The grade of each region."""
        areas = self.zones.of(regions)
        return tuple(self._grade(region, area) for region, area in zip(regions, areas, strict=True))

    def _grade(self, region: Region, area: dict[str, int]) -> Grade:
        case = _Case(region, area, self.zones, self.measurer)
        held = [rule for rule in self.rules.rules if case.touched(rule) and case.meets(rule.where)]
        reached = [case.reached(rule) for rule in held]
        severity = highest([one[0] for one in reached])
        sure = highest([one[1] for one in reached])
        decided = next(
            (rule.name for rule, one in zip(held, reached, strict=True) if one[0] == severity), None
        )
        allowed = [one for one in self.rules.allowances if case.touched(one) and case.meets(one.where)]
        about: list[Clause] = [*(rule for rule in held if not rule.where), *allowed]
        if severity == "within_spec":
            decided = next((one.name for one in about), None)
        if case.area.keys() - {zone for one in about for zone in case.touched(one)}:
            decided = None if highest([severity, self.rules.default]) != severity else decided
            severity, sure = (highest([one, self.rules.default]) for one in (severity, sure))
        if self.rules.ceiling is not None and case.value("peak")[0] >= self.rules.ceiling:
            severity, sure = (highest([one, "major"]) for one in (severity, sure))
        margin = max((one[2] for one in reached), default=None)
        return Grade(
            severity, sure, tuple(case.area), decided, margin, case.values, case.area, self._area_mm2(case)
        )

    def _area_mm2(self, case: "_Case") -> Mapping[str, float]:
        """The area in each zone in mm²; a region's pixels count as equally large."""
        if self.measurer.scale is None:
            return {}
        each = area_mm2(case.region, self.measurer.scale) / case.region.area
        return {zone: each * pixels for zone, pixels in case.area.items()}

    def unmeasured(self, pixel: Region) -> Grade:
        """The grade of the highest pixel of an image whose score is too high without any region: for review."""
        (area,) = self.zones.of([pixel])
        return Grade(self.rules.default, "within_spec", tuple(area), None, None, {}, area, {})


class _Case:
    """A region under judgement, with what was measured of it."""

    def __init__(self, region: Region, area: dict[str, int], zones: ZoneMaps, measurer: Measurer) -> None:
        self.region, self.area, self.zones, self.measurer = region, area, zones, measurer
        self.values: dict[str, float] = {}

    def touched(self, one: Clause) -> list[str]:
        """The zones that the region touches and that a rule is about."""
        return [zone for zone in self.area if not one.zones or zone in one.zones]

    def value(self, measure: str) -> tuple[float, float]:
        """A measure and its standard uncertainty."""
        found, sigma = self.measurer.value(self.region, measure, self.zones, self.area)
        self.values[measure] = found
        return found, sigma

    def meets(self, where: Mapping[str, float]) -> bool:
        """Whether all conditions hold."""
        for key, bound in where.items():
            measure, _, side = key.rpartition("_")
            found = self.value(measure)[0]
            if found < bound if side == "min" else found > bound:
                return False
        return True

    def reached(self, rule: Rule) -> tuple[Severity, Severity, float]:
        """The highest severity whose limit may be reached, the highest that surely is, and the margin.

        The margin is the ratio of the measure to the lowest limit.
        """
        found, sigma = self.value(rule.measure)
        limits = rule.limits
        possible = [name for name, limit in limits.items() if found + GUARD[name] * sigma >= limit]
        certain = [name for name, limit in limits.items() if found - GUARD[name] * sigma >= limit]
        return highest(possible), highest(certain), found / next(iter(limits.values()))


def highest(severities: Sequence[Severity]) -> Severity:
    """The most serious of some severities, "within_spec" of none."""
    return max(severities, key=SEVERITIES.index, default="within_spec")
