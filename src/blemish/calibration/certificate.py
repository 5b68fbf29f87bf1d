"""The certificate of a model: which miss rate its verdicts were proved to keep, and at what price."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from blemish.messages import lines, message
from blemish.metrics.rates import units_needed
from blemish.records import Record

FEWEST_GROUPS = 3
"""With fewer lots, nothing is known about how lots differ."""
SHOWN_DIGITS = 12

Count = Annotated[int, Field(ge=0, description="a whole number, not negative")]
Share = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
Probability = Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 hex digits")]
ShortHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="16 hex digits")]


class DefectKind(Record):
    """What was tested of one kind of defects."""

    name: str = Field(description="text")
    tested: Count
    missed: Count


class Certificate(Record):
    """What was proved about the verdicts on defective and on normal images that the model had not learned from."""

    policy: Sha256
    """Fingerprint of all that decides verdicts; see `policy_fingerprint`."""
    made: str = Field(max_length=40, description="text")
    """Time, in UTC."""
    miss_rate: Probability
    """The share of defective units that may be OK, as promised."""
    confidence: Probability
    use: int = Field(ge=1, description="a whole number from 1 on")
    """How often these defects have been used; each use may take a smaller part of the risk."""
    images: tuple[ShortHash, ...] = Field(description="a list of 16 hex digits each")
    """First digits of the sha256 of the defective images."""
    defects: Count
    defects_worth: Count
    """Number of independent ones that they are worth, since images of one part or lot resemble each other."""
    missed: Count
    """Defective images that are OK."""
    kinds: tuple[DefectKind, ...] = Field(description="a list of objects with name, tested and missed")
    groups: Count
    """Number of parts, lots or runs of the defective images."""
    proved: Share
    """The miss rate is at most this, with the confidence."""
    good: Count
    good_worth: Count
    scrapped: Count
    """Normal images that are NG."""
    reviewed: Count
    """Normal images that are for review or cannot be judged."""
    scrap_bound: Share
    """At most this share of good units is NG, with the confidence."""
    review_bound: Share

    @property
    def holds(self) -> bool:
        """Whether the promised miss rate was proved."""
        return self.proved <= self.miss_rate

    def is_valid_for(self, policy: str) -> bool:
        """Whether nothing that decides verdicts has changed since."""
        return policy == self.policy

    def brief(self, policy: str) -> dict[str, Any]:
        """What goes with each result, as values that JSON can hold."""
        return {
            "valid": self.is_valid_for(policy),
            "proved": self.proved,
            "confidence": self.confidence,
            "defects": self.defects,
            "missed": self.missed,
        }

    def describe_for(self, policy: str) -> str:
        """The same for a model with this policy: what was proved, or that it is void."""
        if self.is_valid_for(policy):
            return self.describe()
        return message("void: something that decides verdicts was changed. Run blemish certify again.")

    def describe(self) -> str:
        """What was proved, the price, and what is not covered."""
        return lines([self._proof(), *self._kinds(), self._price(), *self._limits()])

    def _proof(self) -> str:
        given: dict[str, Any] = {
            "caught": self.defects - self.missed,
            "defects": self.defects,
            "proved": _percent(self.proved),
            "confidence": _percent(self.confidence),
            "rate": _percent(self.miss_rate),
        }
        text = message(
            "{caught} of {defects} defective images are not OK: at most {proved} of such defects are missed "
            "({confidence} confidence).",
            **given,
        )
        if self.holds:
            return text + message(" The promise of {rate} holds.", **given)
        needed = units_needed(self.miss_rate, self.confidence, self.missed)
        return text + message(
            " The promise of {rate} is not proved: it takes {needed} independent defective images of which no more "
            "are missed.",
            needed=needed,
            **given,
        )

    def _kinds(self) -> Sequence[str]:
        return [
            message("  {name}: {missed} of {tested} missed", name=k.name, missed=k.missed, tested=k.tested)
            for k in self.kinds
            if len(self.kinds) > 1
        ]

    def _price(self) -> str:
        return message(
            "Price: of {good} normal images {scrapped} are NG (at most {scrap}) and {reviewed} are for review (at most "
            "{review}).",
            good=self.good,
            scrapped=self.scrapped,
            scrap=_percent(self.scrap_bound),
            reviewed=self.reviewed,
            review=_percent(self.review_bound),
        )

    def _limits(self) -> Sequence[str]:
        texts = [
            message(
                "Not covered: kinds of defects that were not tested, other lighting, cameras and products."
            )
        ]
        if self.defects_worth < self.defects:
            texts.append(
                message(
                    "The defective images are worth {worth} independent ones, since those of one group resemble each "
                    "other.",
                    worth=self.defects_worth,
                )
            )
        if self.groups < min(FEWEST_GROUPS, self.defects):
            texts.append(message("They are of fewer than three groups, so how lots differ is not known."))
        if self.use > 1:
            texts.append(
                message(
                    "These defects were used for the {use}. time, which takes a higher confidence; test on new ones.",
                    use=self.use,
                )
            )
        return texts


def policy_fingerprint(parts: Mapping[str, Any]) -> str:
    """The sha256 of values that JSON can hold: of all that decides verdicts."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
