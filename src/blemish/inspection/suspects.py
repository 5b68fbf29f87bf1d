"""What a search for dirty training data found: images that look defective, near-copies and unreadable files."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from blemish.data.checks import BadImage
from blemish.files import write_whole
from blemish.messages import columns, lines, message
from blemish.names import printable

CSV_COLUMNS = ("path", "reason", "score", "z", "q")
LISTED_SHARE = 0.15
"""Share of the ranking that is listed in any case: the q-values may be too cautious."""
PRINTED = 30
"""Maximum number of images, and of groups of copies, that are printed."""


class Suspect(NamedTuple):
    """An image in the ranking, scored by a model that did not learn from it."""

    path: Path
    score: float
    z: float
    """Robust standard deviations above the median score."""
    q: float
    """The smallest rate of false discoveries at which the image is suspected."""


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Images that show the same, in natural order; all but the first are superfluous."""

    paths: tuple[Path, ...]
    correlation: float | None
    """The smallest correlation of fine detail by which they were joined; None if the files have the same bytes."""

    @property
    def copies(self) -> int:
        """Number of images but the first."""
        return len(self.paths) - 1

    def __str__(self) -> str:
        names = ", ".join(printable(path) for path in self.paths)
        if self.correlation is None:
            return message("Same bytes: {names}", names=names)
        return message(
            "Near-copies (correlation {correlation:.3f}): {names}", correlation=self.correlation, names=names
        )

    @property
    def reason(self) -> str:
        """How they are alike, in the words of the csv file."""
        return "same bytes as" if self.correlation is None else "near-copy of"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Suspects:
    """The images of a training set that a person should look at; nothing is removed."""

    ranking: tuple[Suspect, ...]
    """Every different image that can be read, highest z first."""
    copies: tuple[CopyGroup, ...] = ()
    """Groups with the same bytes, then near-copies."""
    unreadable: tuple[BadImage, ...] = ()
    rate: float
    """Rate of false discoveries: images with a q-value of at most this are suspected."""
    how: str
    """How the images were scored, as one sentence."""
    copies_sought: bool = True
    """Whether copies and unreadable files were looked for; the report of `fit` is on scores only."""
    report: Path | None = None
    """HTML file of the report, if one was written."""

    @property
    def suspected(self) -> tuple[Suspect, ...]:
        """The images with a q-value of at most the rate."""
        return tuple(suspect for suspect in self.ranking if suspect.q <= self.rate)

    @property
    def listed(self) -> tuple[Suspect, ...]:
        """The beginning of the ranking: all suspected images, and at least 15 % of all."""
        return self.ranking[: max(len(self.suspected), math.ceil(LISTED_SHARE * len(self.ranking)))]

    @property
    def to_exclude(self) -> tuple[Path, ...]:
        """What `write_csv` lists: the suspected images, all but one of each group of copies, and unreadable files."""
        return tuple(self._reasons())

    @property
    def images(self) -> int:
        """Number of files."""
        same = sum(group.copies for group in self.copies if group.correlation is None)
        return len(self.ranking) + len(self.unreadable) + same

    def write_csv(self, path: Path | str) -> None:
        """Write the list of images to leave out: path, reason, score, z and q; `fit --exclude` reads it.

        In it are the suspected images, all but one of each group of copies, and what cannot be read; an image that is
        suspected and a copy has both reasons, with a semicolon between. A person removes the rows of images that are
        normal and no copies. Paths are absolute. The file appears whole or not at all, instead of an older one, in
        UTF-8 with the mark that spreadsheets need.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(self._rows())
        write_whole(Path(path), text.getvalue().encode("utf-8-sig"))

    def to_dict(self) -> dict[str, Any]:
        """All that was found, as values that JSON can hold."""
        return {
            "images": self.images,
            "rate": self.rate,
            "suspected": len(self.suspected),
            "ranking": [one._asdict() | {"path": printable(one.path)} for one in self.ranking],
            "copies": [
                {"paths": [printable(path) for path in group.paths], "correlation": group.correlation}
                for group in self.copies
            ],
            "unreadable": [{"path": printable(bad.path), "reason": bad.reason} for bad in self.unreadable],
        }

    def summary(self) -> str:
        """The numbers of suspected images, copies and unreadable files."""
        return message(
            "{images} images: {suspected} suspected of a defect (q ≤ {rate:g}), {same} with the same bytes as another, "
            "{near} near-copies, {unreadable} unreadable.",
            images=self.images,
            suspected=len(self.suspected),
            rate=self.rate,
            same=sum(group.copies for group in self.copies if group.correlation is None),
            near=sum(group.copies for group in self.copies if group.correlation is not None),
            unreadable=len(self.unreadable),
        )

    def __str__(self) -> str:
        """The numbers, the beginning of the ranking, the copies and the unreadable files."""
        parts = [
            lines([self.summary(), self.how]),
            self._table(),
            self._copies(),
            lines(bad.reason for bad in self.unreadable),
        ]
        return "\n\n".join(part for part in parts if part)

    def __repr__(self) -> str:
        return (
            f"Suspects(images={self.images}, suspected={len(self.suspected)}, copies={len(self.copies)}, "
            f"unreadable={len(self.unreadable)}, rate={self.rate:g})"
        )

    def _table(self) -> str:
        """A row for each listed image, with a star for the suspected ones."""
        rows: list[tuple[str, ...]] = [("", message("score"), "z", "q", message("image"))]
        for one in self.listed[:PRINTED]:
            star = "*" if one.q <= self.rate else ""
            rows.append((star, f"{one.score:.4g}", f"{one.z:.1f}", f"{one.q:.2g}", printable(one.path)))
        widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
        texts = [
            "  ".join(
                [*(" " * (w - columns(c)) + c for c, w in zip(row[:-1], widths, strict=False)), row[-1]]
            )
            for row in rows
        ]
        return lines([*texts, *_more(len(self.listed))])

    def _copies(self) -> str:
        return lines([*map(str, self.copies[:PRINTED]), *_more(len(self.copies))])

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of the csv file, each path once."""
        score_of = {one.path: one for one in self.ranking}
        for path, reasons in self._reasons().items():
            one = score_of.get(path)
            numbers = ("", "", "") if one is None else (repr(one.score), repr(one.z), repr(one.q))
            yield printable(path.absolute()), "; ".join(reasons), *numbers

    def _reasons(self) -> dict[Path, list[str]]:
        """Why each image should be left out; one that is suspected can also be a copy."""
        reasons = {one.path: ["suspected of a defect"] for one in self.suspected}
        for group in self.copies:
            first = printable(group.paths[0].absolute())
            for path in group.paths[1:]:
                reasons.setdefault(path, []).append(f"{group.reason} {first}")
        return reasons | {bad.path: ["unreadable"] for bad in self.unreadable}


def _more(count: int) -> list[str]:
    return [message("… and {count} more", count=count - PRINTED)] if count > PRINTED else []
