"""Judges recorded inspections again, by other rules: which verdicts would change before the rules are taken."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from blemish.errors import DataError
from blemish.inspection.result import Inspection, Unreadable
from blemish.messages import Message, lines, message
from blemish.model import Model
from blemish.names import printable
from blemish.rules import Rules
from blemish.types import Progress, Verdict, no_progress

LARGEST_LINE = 2**26
"""Largest line of a file of results that is read, in bytes."""
SAME_SCORE = 1e-3
"""Relative difference up to which a score is the recorded one; runtimes differ by less."""


class Recorded(BaseModel):
    """What is needed of a line that `blemish inspect --json` printed."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    path: str
    verdict: Verdict
    score: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """One recorded image, judged again."""

    path: Path
    before: Verdict
    after: Verdict
    score_changed: bool
    """Whether its score is not the recorded one, since the model or the image was changed."""
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {
            "path": printable(self.path),
            "before": self.before,
            "after": self.after,
            "score_changed": self.score_changed,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """Recorded inspections and what became of them."""

    images: tuple[Replayed, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def flips(self) -> list[Replayed]:
        """The images whose verdict changes."""
        return [one for one in self.images if one.before != one.after]

    def __str__(self) -> str:
        counts = Counter((one.before, one.after) for one in self.flips)
        texts = [
            f"{one.before} → {one.after} {printable(one.path)}" + (f" – {one.reason}" if one.reason else "")
            for one in self.flips
        ]
        texts.append(
            message("{flips} of {count} verdicts change.", flips=len(self.flips), count=len(self.images))
        )
        texts += [f"  {before} → {after}: {count}" for (before, after), count in sorted(counts.items())]
        changed = sum(one.score_changed for one in self.images)
        if changed:
            texts.append(
                message(
                    "{count} scores are not those recorded: the model or the images were changed.",
                    count=changed,
                )
            )
        texts += [message("{error}", error=one.error) for one in self.unreadable]
        return lines(texts)


def replay(
    model: Model, results: Path | str, rules: Rules | None, progress: Progress = no_progress
) -> Replay:
    """Inspect the images of recorded results again, by rules that the model does not have yet.

    Args:
        model: Scores them; it is not changed.
        results: File of what `blemish inspect --json` printed; of an image that is there twice, the last line counts.
        rules: The other rules; None: the score alone decides.
        progress: Called with the number of images judged.

    Raises:
        DataError: If the file cannot be read or a line is no result.
    """
    recorded = read_results(Path(results))
    changed = Model(model.manifest.changed(rules=rules), model.runtime)
    images: list[Replayed] = []
    unreadable: list[Unreadable] = []
    for one, found in zip(recorded, changed.inspect_many([Path(r.path) for r in recorded]), strict=True):
        if isinstance(found, Inspection):
            images.append(_compared(one, found))
        else:
            unreadable.append(found)
        progress("judging", len(images) + len(unreadable), len(recorded))
    return Replay(tuple(images), tuple(unreadable))


def read_results(path: Path) -> list[Recorded]:
    """The results in a file, each image once.

    Raises:
        DataError: If the file cannot be read or a line is no result.
    """
    found: dict[str, Recorded] = {}
    for number, line in _lines(path):
        try:
            values = json.loads(line)
            if isinstance(values, dict) and "error" in values:
                continue  # an image that could not be read then
            one = Recorded.model_validate(values)
        except (ValueError, ValidationError, RecursionError) as error:
            raise DataError(
                "{path}, line {number} is no result of blemish inspect --json. Give the file that it printed.",
                path=path,
                number=number,
            ) from error
        found[one.path] = one
    if not found:
        raise DataError(
            "{path} holds no result. Give the file that blemish inspect --json printed.", path=path
        )
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    try:
        with path.open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(LARGEST_LINE):
                number += 1
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "{path} cannot be read as text: {error}. Give the file that blemish inspect --json printed.",
            path=path,
            error=error,
        ) from error


def _compared(recorded: Recorded, found: Inspection) -> Replayed:
    difference = abs(found.score - recorded.score)
    changed = difference > SAME_SCORE * max(abs(recorded.score), abs(found.score))
    reason = None if found.reason is None else Message(found.reason)
    return Replayed(Path(recorded.path), recorded.verdict, found.verdict, changed, reason)
