"""Samples listed in a csv file."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from blemish.data.labels import parse_label
from blemish.errors import DataError
from blemish.types import Sample, Split


def read_table(
    table: Path, names: dict[str, str], roots: tuple[Path, ...], required: Iterable[str] | None = None
) -> Iterator[Sample]:
    """Samples of a csv file, in its order.

    Args:
        table: The file.
        names: Column name of each of the keys path, label, mask, split and category; keys may be missing.
        roots: Folders that paths may be relative to.
        required: Keys whose columns must exist; default all of `names`.

    Raises:
        DataError: The file or a row is invalid; the text names the line.
    """
    category = table.resolve().stem
    needed = [names[key] for key in (names if required is None else required)]
    for line, row in _rows(table, needed):
        here = f"{table}, line {line}"
        cells = {key: row.get(column, "") for key, column in names.items()}
        for key in ("path", "label"):
            if not cells[key]:
                raise DataError(f"{here}: the column {names[key]!r} is empty. Fill it in or remove the row.")
        label, defect_type = _parse_label(cells["label"], here)
        split = _parse_split(cells.get("split", ""), label, here)
        yield Sample(
            path=_existing(cells["path"], roots, here),
            label=label,
            split=split,
            defect_type=defect_type,
            mask_path=_existing(cells["mask"], roots, here) if label and cells["mask"] else None,
            category=cells.get("category", "") or category,
        )


def _rows(table: Path, needed: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row that is not blank; column names in lower case."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{table} is not UTF-8 text. Save it as “CSV UTF-8”.") from None
    except OSError as error:
        raise DataError(
            f"{table} cannot be read: {error.strerror}. Check that it is a file you may read."
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in needed if name not in columns]
        if missing:
            raise DataError(
                f"{table}, line 1: no column {' and '.join(map(repr, missing))} among "
                f"{', '.join(map(repr, columns)) or 'nothing'}. "
                "Name the columns in the first line, with commas between."
            )
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(columns):
                raise DataError(
                    f"{table}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns. "
                    "Put quotes around a cell that holds a comma."
                )
            yield reader.line_num, dict(zip(columns, map(str.strip, cells), strict=False))
    except csv.Error as error:
        raise DataError(
            f"{table}, line {reader.line_num}: not valid csv ({error}). Check its quotes."
        ) from None


def _parse_label(text: str, here: str) -> tuple[int, str]:
    """Label and defect type."""
    parsed = parse_label(text)
    if parsed is None:
        raise DataError(
            f"{here}: the label {text!r} does not say whether the image is normal. Write good or 0 for a normal image, "
            "1 or the name of the defect for an anomalous one."
        )
    return parsed


def _parse_split(text: str, label: int, here: str) -> Split:
    match text.lower():
        case "":
            return "test" if label else "train"
        case "test":
            return "test"
        case "train" if label:
            raise DataError(
                f"{here}: an anomalous image is marked for training, which uses normal images only. "
                "Mark it test, or correct its label."
            )
        case "train":
            return "train"
    raise DataError(f"{here}: the split is {text!r}. Write train or test, or leave it empty.")


def _existing(text: str, roots: tuple[Path, ...], here: str) -> Path:
    for root in roots:
        # Path.is_file takes several times as long, which counts in a table of 100 000 rows.
        if "\0" not in text and os.path.isfile(os.path.join(root, text)):  # noqa: PTH113, PTH118
            return root / text
    raise DataError(f"{here}: the file {roots[0] / text} does not exist. Correct the path or remove the row.")
