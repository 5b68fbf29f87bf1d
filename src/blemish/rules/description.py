"""Rules as text: one line for each zone, rule and allowance, and what is accepted."""

from typing import TYPE_CHECKING

from blemish.messages import Message, lines, listed, message

if TYPE_CHECKING:
    from blemish.rules.record import Allowance, Rule, Rules, Zone


def describe(rules: "Rules") -> str:
    """What the rules say."""
    texts = [
        *([] if rules.gate is None else [message("INVALID: images that the gate refuses.")]),
        *(
            []
            if rules.alignment is None
            else [message("Zones follow the part ({method}).", method=rules.alignment.method)]
        ),
        *map(_zone, rules.zones),
        *map(_rule, rules.rules),
        *map(_allowance, rules.allowances),
        message(
            "NG: a critical region, {major} or more major ones, {minor} or more minor ones.",
            major=rules.accepted.major + 1,
            minor=rules.accepted.minor + 1,
        ),
        message("A region that no rule is about is {severity}.", severity=rules.default),
    ]
    if rules.accepted.demerits is not None:
        texts.append(message("NG: {demerits:g} or more demerits.", demerits=rules.accepted.demerits))
    if rules.ceiling is not None:
        texts.append(message("From a peak of {peak:g} on, a region is at least major.", peak=rules.ceiling))
    if rules.merge_px:
        texts.append(
            message("Regions with up to {pixels} pixels between them are one.", pixels=rules.merge_px)
        )
    return lines(texts)


def _zone(zone: "Zone") -> Message:
    if zone.ignore:
        return message("Zone {name}: nothing there counts.", name=zone.name)
    totals = ((zone.total_area_px, "px"), (zone.total_area_mm2, "mm²"))
    limits = [f"{limit:g} {unit}" for limit, unit in totals if limit is not None]
    if not limits:
        return message("Zone {name}.", name=zone.name)
    return message(
        "Zone {name}: NG if all regions there have {limits} or more.", name=zone.name, limits=listed(limits)
    )


def _rule(rule: "Rule") -> Message:
    limits = listed([f"{severity} ≥ {limit:g}" for severity, limit in rule.limits.items()])
    return message(
        "Rule {name}: {measure} {limits}{where}, {zones}.",
        name=rule.name,
        measure=rule.measure,
        limits=limits,
        where=_where(rule.where),
        zones=_zones(rule.zones),
    )


def _allowance(allowance: "Allowance") -> Message:
    return message(
        "Allowed as {name}{where}, {zones}.",
        name=allowance.name,
        where=_where(allowance.where),
        zones=_zones(allowance.zones),
    )


def _where(where: dict[str, float]) -> Message:
    conditions = [
        f"{key.rpartition('_')[0]} {'≥' if key.endswith('_min') else '≤'} {value:g}"
        for key, value in where.items()
    ]
    return message(" if {conditions}", conditions=listed(conditions)) if conditions else Message()


def _zones(zones: tuple[str, ...]) -> Message:
    return message("in {zones}", zones=listed(zones)) if zones else message("everywhere")
