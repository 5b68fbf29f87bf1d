"""Reads rules from a TOML file, with the masks and images that it names; errors name the line and the entry."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blemish.data.images import read_mask
from blemish.data.mask_runs import MaskRuns
from blemish.errors import DataError
from blemish.messages import Message, lines, message
from blemish.records import problems_of
from blemish.rules.record import InconsistentError, Rules, Zone
from blemish.types import Progress, no_progress

LARGEST = 2**22
"""Largest file of rules that is read, in bytes."""
MAX_LISTED = 5


def read_rules(path: Path | str, progress: Progress = no_progress) -> Rules:
    """The rules in a TOML file; masks, reference and normal images are read from the files that it names.

    Args:
        path: The file; names in it are relative to its folder.
        progress: Called with the number of normal images measured.

    Raises:
        DataError: If the file or one that it names cannot be read, or an entry is wrong; the text names line and entry.
    """
    path = Path(path)
    text = _text(path)
    try:
        values = json.dumps(tomllib.loads(text), default=str)
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise DataError("{path} is not valid TOML: {error}. Correct it.", path=path, error=error) from error
    try:
        rules = Rules.model_validate_json(values)
    except ValidationError as error:
        inner = error.errors()[0].get("ctx", {}).get("error")
        problems = inner.problems if isinstance(inner, InconsistentError) else problems_of(Rules, error)
        raise _wrong(path, text, problems) from error
    changes: dict[str, Any] = {}
    for name, read in _readers(rules, path.parent, progress):
        try:
            changes[name] = read()
        except DataError as error:
            raise _wrong(path, text, {name: message("{name}: {error}", name=name, error=error)}) from error
    zones = tuple(changes.pop(f"zones[{i}].mask", zone) for i, zone in enumerate(rules.zones))
    return rules.changed(zones=zones, **{name.partition(".")[0]: value for name, value in changes.items()})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(
                "{path} is larger than 4 MiB, which no file of rules is. Name another file.", path=path
            )
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            "{path} cannot be read as text: {error}. Name a TOML file.", path=path, error=error
        ) from error


def _wrong(path: Path, text: str, problems: dict[str, str]) -> DataError:
    """The error that lists wrong entries with their lines."""
    placed = sorted((line_of(text, name), what) for name, what in problems.items())
    named = [
        message("line {line}: {what}", line=line, what=Message(what)) for line, what in placed[:MAX_LISTED]
    ]
    return DataError(
        "{path} is wrong:\n{listed}\nCorrect it; docs/rules.md describes every entry.",
        path=path,
        listed=lines(named, "  "),
    )


def _readers(rules: Rules, folder: Path, progress: Progress) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The entries that name files, and what reads them."""
    for i, zone in enumerate(rules.zones):
        if zone.mask is not None:
            yield f"zones[{i}].mask", partial(_with_pixels, zone, folder)
    if rules.gate is not None:
        yield "gate.images", partial(rules.gate.learned, folder, progress)
    if rules.alignment is not None:
        yield "alignment.image", partial(rules.alignment.learned, folder)


def _with_pixels(zone: Zone, folder: Path) -> Zone:
    """The zone with the pixels of its mask."""
    return zone.changed(mask=None, pixels=MaskRuns.of(read_mask(folder / str(zone.mask))))


def line_of(text: str, name: str) -> int:
    """The line, from 1, of an entry of a TOML text, such as `rules[2].where.area_px_max`, or of the nearest one there.

    Tables are found by their headers, `[accepted]` and `[[rules]]`; an entry that is absent is at its table's header.
    """
    table, *keys = name.split(".")
    wanted, _, index = table.rstrip("]").partition("[")
    place, inside, count = 1, False, -1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([\w-]+)", line)
        if header:
            count += header[1] == wanted
            inside = header[1] == wanted and count == int(index or 0)
            place = number if inside else place
        elif inside and keys and re.match(rf"\s*{re.escape(keys[0].split('[')[0])}\s*=", line):
            return number
        elif not inside and count < 0 and re.match(rf"\s*{re.escape(wanted)}\s*=", line):
            place = number
    return place
