"""The verdict on an image from the grades of its regions, with reasons in both languages."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from blemish.messages import Message, message
from blemish.reasons import Reason
from blemish.rules.grade import Grade
from blemish.rules.record import Rules, Severity
from blemish.types import Verdict

DEMERITS: Mapping[Severity, float] = {"within_spec": 0, "minor": 10, "major": 50, "critical": 100}
"""Weights of defects in a sum of demerits (Dodge, "A method of rating manufactured product", 1928)."""


def decide(grades: Sequence[Grade], rules: Rules) -> tuple[Verdict, list[Reason]]:
    """NG if it is certain by the rules, REVIEW if only a guard band decides, else OK; and why."""
    totals = list(_totals(grades, rules))
    certain = [*_too_many([grade.sure for grade in grades], rules), *totals]
    if certain:
        return "NG", certain
    possible = list(_too_many([grade.severity for grade in grades], rules))
    if not possible:
        return "OK", []
    closer = Reason(
        "borderline", lambda: message("a measure is closer to its limit than its uncertainty allows")
    )
    return "REVIEW", [*possible, closer]


def _too_many(severities: Iterable[Severity], rules: Rules) -> Iterator[Reason]:
    """The reasons by which regions of these severities are not accepted."""
    count = Counter(severities)
    accepted = rules.accepted
    if number := count["critical"]:
        yield Reason("critical", lambda: message("critical regions: {number}", number=number))
    if (major := count["major"]) > accepted.major:
        yield Reason(
            "too_many_major",
            lambda: message(
                "major regions: {number} (accepted: {accepted})", number=major, accepted=accepted.major
            ),
        )
    if (minor := count["minor"]) > accepted.minor:
        yield Reason(
            "too_many_minor",
            lambda: message(
                "minor regions: {number} (accepted: {accepted})", number=minor, accepted=accepted.minor
            ),
        )
    demerits = sum(DEMERITS[severity] * number for severity, number in count.items())
    if accepted.demerits is not None and demerits >= accepted.demerits:
        yield Reason(
            "demerits",
            lambda: message(
                "demerits: {demerits:g} (NG from {limit:g} on)", demerits=demerits, limit=accepted.demerits
            ),
        )


def _totals(grades: Sequence[Grade], rules: Rules) -> Iterator[Reason]:
    """The reasons by which the area of all regions of a zone is too large."""
    pixels, square_millimetres = Counter[str](), Counter[str]()
    for grade in grades:
        pixels.update(grade.area)
        square_millimetres.update(grade.area_mm2)
    for zone in rules.zones:
        for total, limit, unit in (
            (pixels[zone.name], zone.total_area_px, "px"),
            (square_millimetres[zone.name], zone.total_area_mm2, "mm²"),
        ):
            if limit is not None and total >= limit:
                yield Reason("total_area", _total_text(zone.name, total, limit, unit))


def _total_text(zone: str, total: float, limit: float, unit: str) -> Callable[[], Message]:
    return lambda: message(
        "area of all regions in {zone}: {total:.4g} {unit} (NG from {limit:g} on)",
        total=total,
        limit=limit,
        unit=unit,
        zone=zone,
    )
