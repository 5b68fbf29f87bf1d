"""Rules: what a defect may measure where, as data. Declared here, read from TOML by `blemish.rules.toml`."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from blemish.camera.scale import Scale
from blemish.data.mask_runs import MaskRuns
from blemish.messages import Message, listed, message
from blemish.records import UserRecord
from blemish.rules.description import describe
from blemish.rules.gate import Alignment, Gate
from blemish.rules.measures import DISTANCES, GROWING, MEASURES, SHAPES, in_millimetres

Severity = Literal["within_spec", "minor", "major", "critical"]
"""How serious a defect is, in ascending order; "within_spec" is a real deviation that is allowed."""
SEVERITIES: tuple[Severity, ...] = ("within_spec", "minor", "major", "critical")
ELSEWHERE = "elsewhere"
"""The zone of all pixels that no declared zone has."""

Name = Annotated[str, Field(min_length=1, max_length=64, description="a name of 1 to 64 characters")]
Positive = Annotated[float, Field(gt=0, le=1e9, description="a number above 0")]
Counted = Annotated[int, Field(ge=0, le=10**6, description="a whole number, not negative")]
Point = tuple[
    Annotated[float, Field(ge=-65536, le=65536)],
    Annotated[float, Field(ge=-65536, le=65536)],
]


class InconsistentError(ValueError):
    """Rules whose entries contradict each other: what is wrong, by the name of the entry."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(Message("; ".join(problems.values())))
        self.problems = problems


class Zone(UserRecord):
    """A part of the image with rules of its own, in pixels of the inspected image, or of the reference if aligned."""

    name: Name
    polygon: tuple[Point, ...] = Field(
        default=(), max_length=10_000, description="a list of at least three points [x, y]"
    )
    mask: str | None = Field(default=None, description="the name of an image file beside the rules")
    """An image of the size of the inspected ones, not black where the zone is."""
    pixels: MaskRuns | None = Field(default=None, description="an object with height, width and runs")
    """What the mask shows; it takes the mask's place when the rules are read."""
    ignore: bool = Field(default=False, description="true or false")
    """Whether nothing there counts."""
    total_area_px: Positive | None = Field(default=None, description="a number above 0")
    """Area of all regions in the zone from which the image is NG, whatever they are by themselves."""
    total_area_mm2: Positive | None = Field(default=None, description="a number above 0")


class Clause(UserRecord):
    """What a rule and an allowance have in common: where it holds, and for which regions."""

    name: Name
    zones: tuple[Name, ...] = Field(default=(), description="a list of names of zones")
    """Where it holds; everywhere if empty. The zone `ELSEWHERE` is what no zone covers."""
    where: dict[str, float] = Field(
        default={}, max_length=8, description="an object of numbers, such as {aspect_min = 3}"
    )
    """Conditions on measures, all of which must hold."""


class Rule(Clause):
    """Limits of one measure: a region that reaches one has its severity.

    Conditions are `MEASURE_min`, and `MEASURE_max` for distances. A rule with conditions makes regions more severe, but
    does not allow those below its limits.
    """

    measure: Literal[tuple(name for name in MEASURES if name not in DISTANCES)] = Field(  # type: ignore[valid-type]
        description=f"one of {', '.join(name for name in MEASURES if name not in DISTANCES)}"
    )
    minor: Positive | None = Field(default=None, description="a number above 0")
    major: Positive | None = Field(default=None, description="a number above 0")
    critical: Positive | None = Field(default=None, description="a number above 0")

    @property
    def limits(self) -> dict[Severity, float]:
        """The limit of each severity that has one, ascending."""
        values = {severity: getattr(self, severity) for severity in SEVERITIES[1:]}
        return {severity: value for severity, value in values.items() if value is not None}


class Allowance(Clause):
    """Regions that are allowed: those for which all conditions hold, of which there is at least one.

    Conditions are `MEASURE_max`, and `MEASURE_min` for distances: a region that outgrows them is no longer allowed.
    """


class Accepted(UserRecord):
    """How many regions an image may have and is not NG; a critical one is never accepted."""

    major: Counted = 0
    minor: Counted = 0
    demerits: Positive | None = Field(default=None, description="a number above 0")
    """Sum from which the image is NG: 50 for a major region, 10 for a minor one."""


class Rules(UserRecord):
    """Zones, limits and what is accepted."""

    gate: Gate | None = Field(default=None, description="a table with images")
    """What images must be to be judged."""
    alignment: Alignment | None = Field(default=None, description="a table with image")
    """By which zones follow the part."""
    scale: Scale | None = Field(default=None, description="a table with mm_per_pixel or points")
    """Millimetres per pixel, for measures in mm and mm²."""
    zones: tuple[Zone, ...] = Field(default=(), max_length=100, description="a list of zones")
    rules: tuple[Rule, ...] = Field(default=(), max_length=1000, description="a list of rules")
    allowances: tuple[Allowance, ...] = Field(default=(), max_length=1000, description="a list of allowances")
    accepted: Accepted = Accepted()
    default: Literal["minor", "major", "critical"] = Field(
        default="major", description='"minor", "major" or "critical"'
    )
    """Severity of a region that no rule is about."""
    ceiling: float | None = Field(default=None, gt=1, le=1e6, description="a number above 1")
    """Peak from which a region is at least major, whatever the rules allow, on the scale of the measure `peak`."""
    merge_px: int = Field(default=0, ge=0, le=1000, description="a whole number from 0 to 1000")
    """Regions with at most so many pixels between them are one."""

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        problems = {name: f"{name} {text}" for name, text in inconsistencies(self)}
        if problems:
            raise InconsistentError(problems)
        return self

    def describe(self) -> str:
        """What the rules say, one line each."""
        return describe(self)


def inconsistencies(rules: Rules) -> Iterator[tuple[str, str]]:
    """What contradicts itself: the name of the entry, such as `rules[2].major`, and what is wrong with it."""
    yield from _duplicates(rules)
    if rules.gate is not None and (rules.gate.images is None) == (rules.gate.limits is None):
        yield "gate.images", message("must name a folder of normal images")
    if rules.alignment is not None and (rules.alignment.image is None) == (rules.alignment.reference is None):
        yield "alignment.image", message("must name a reference image")
    if rules.scale is None:
        for name in _in_millimetres(rules):
            yield name, message("needs the size of a pixel: add [scale] with mm_per_pixel")
    zones = {zone.name for zone in rules.zones}
    for i, zone in enumerate(rules.zones):
        given = [bool(zone.polygon), zone.mask is not None, zone.pixels is not None]
        if sum(given) != 1:
            yield f"zones[{i}]", message("needs either a polygon or a mask")
        elif zone.polygon and len(zone.polygon) < 3:
            yield f"zones[{i}].polygon", message("must have at least three points")
    for kind, entries in _clauses(rules):
        for i, entry in enumerate(entries):
            unknown = sorted(set(entry.zones) - zones - {ELSEWHERE})
            if unknown:
                known = listed([*sorted(zones), ELSEWHERE])
                yield (
                    f"{kind}[{i}].zones",
                    message("names {zone!r}, which is none of {known}", zone=unknown[0], known=known),
                )
            if kind == "allowances" and not entry.where:
                yield f"{kind}[{i}]", message("needs at least one condition in where")
            yield from _wrong_conditions(f"{kind}[{i}].where", entry.where, rises=kind == "rules")
    for i, rule in enumerate(rules.rules):
        values = list(rule.limits.values())
        if not values:
            yield f"rules[{i}]", message("needs at least one of minor, major and critical")
        elif values != sorted(values):
            yield f"rules[{i}]", message("must have minor ≤ major ≤ critical")


def _clauses(rules: Rules) -> tuple[tuple[str, Sequence[Clause]], ...]:
    return ("rules", rules.rules), ("allowances", rules.allowances)


def _duplicates(rules: Rules) -> Iterator[tuple[str, str]]:
    for kind in ("zones", "rules", "allowances"):
        names: list[str] = [ELSEWHERE] if kind == "zones" else []
        for i, entry in enumerate(getattr(rules, kind)):
            if entry.name in names:
                yield f"{kind}[{i}].name", message("is {name!r} for a second time", name=entry.name)
            names.append(entry.name)


def _wrong_conditions(name: str, where: dict[str, float], *, rises: bool) -> Iterator[tuple[str, str]]:
    """Conditions of unknown measures, and those by which a growing defect would become less severe."""
    for key in where:
        measure, _, bound = key.rpartition("_")
        if measure not in MEASURES or bound not in ("min", "max"):
            names = ", ".join(MEASURES)
            yield f"{name}.{key}", message("must be one of {names}, with _min or _max behind", names=names)
        elif measure not in SHAPES and (bound == "min") != (rises == (measure in GROWING)):
            other = f"{measure}_{'max' if bound == 'min' else 'min'}"
            yield (
                f"{name}.{key}",
                message(
                    "would make a growing defect less severe; only {other} is possible here", other=other
                ),
            )


def _in_millimetres(rules: Rules) -> Iterator[str]:
    """Names of the entries that are measured in millimetres."""
    for i, zone in enumerate(rules.zones):
        if zone.total_area_mm2 is not None:
            yield f"zones[{i}].total_area_mm2"
    for i, rule in enumerate(rules.rules):
        if in_millimetres(rule.measure):
            yield f"rules[{i}].measure"
    for kind, entries in _clauses(rules):
        for i, entry in enumerate(entries):
            for key in entry.where:
                if in_millimetres(key.rpartition("_")[0]):
                    yield f"{kind}[{i}].where.{key}"
