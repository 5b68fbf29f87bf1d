"""Samples listed in a csv file."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from blemish.data.find import is_image
from blemish.data.labels import parse_label
from blemish.errors import DataError
from blemish.messages import listed, message
from blemish.types import Sample, Split

LARGEST = 256 * 2**20
"""Largest csv file that is read, in bytes."""


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
    labels: dict[Path, int] = {}
    for line, row in _rows(table, needed):
        here = f"{table}, line {line}"
        cells = {key: row.get(column, "") for key, column in names.items()}
        for key in ("path", "label"):
            if not cells[key]:
                raise DataError(
                    "{here}: the column {names!r} is empty. Fill it in or remove the row.",
                    here=here,
                    names=names[key],
                )
        label, defect_type = _parse_label(cells["label"], here)
        split = _parse_split(cells.get("split", ""), label, here)
        path = _existing(cells["path"], roots, here)
        if labels.setdefault(path, label) != label:
            raise DataError(
                "{here}: {path} is normal in one row and anomalous in another. Correct one of them.",
                here=here,
                path=path,
            )
        yield Sample(
            path=path,
            label=label,
            split=split,
            defect_type=defect_type,
            mask_path=_existing(cells["mask"], roots, here) if label and cells["mask"] else None,
            category=cells.get("category", "") or category,
        )


def read_paths(table: Path, roots: tuple[Path, ...]) -> list[Path]:
    """The column `path` of a csv file, in its order; other columns are not read.

    Args:
        table: The file.
        roots: Folders that paths may be relative to; the first one where the file exists, or else the first one.

    Raises:
        DataError: The file is no csv file, has no such column, or a cell of it is empty; the text names the line.
    """
    if table.is_file() and is_image(table):
        raise DataError(
            "{table} is an image, not a csv file. To leave it out, list it under the heading path in a csv file, and "
            "name that file.",
            table=table,
        )
    paths = []
    for line, row in _rows(table, ["path"]):
        text = row.get("path", "")
        if not text or "\0" in text:
            raise DataError(
                "{table}, line {line}: the column 'path' holds no path. Fill it in or remove the row.",
                table=table,
                line=line,
            )
        places = [root / text for root in roots]
        paths.append(next((place for place in places if os.path.lexists(place)), places[0]))
    return paths


def read_column(table: Path, column: str, roots: tuple[Path, ...]) -> dict[Path, str] | None:
    """The cells of a column by the path that `read_table` gives a row; None if there is no such column.

    Raises:
        DataError: The file is no csv file, a cell is empty, or a file does not exist; the text names the line.
    """
    name = column.strip().lower()
    cells = {}
    for line, row in _rows(table, ["path"]):
        if name not in row:
            return None
        here = f"{table}, line {line}"
        if not row[name]:
            raise DataError(
                "{here}: the column {names!r} is empty. Fill it in or remove the row.", here=here, names=name
            )
        cells[_existing(row["path"], roots, here)] = row[name]
    return cells


def _text(table: Path) -> str:
    if table.exists() and not (table.is_file() or table.is_dir()):
        raise DataError("{table} is a pipe or a device. Save the table as a file.", table=table)
    try:
        if table.stat().st_size > LARGEST:
            raise DataError(
                "{table} is larger than {largest} MiB, which no list of images is. Name another file.",
                table=table,
                largest=LARGEST // 2**20,
            )
        return table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("{table} is not UTF-8 text. Save it as “CSV UTF-8”.", table=table) from None
    except OSError as error:
        raise DataError(
            "{table} cannot be read: {strerror}. Check that it is a file you may read.",
            table=table,
            strerror=error.strerror,
        ) from None


def _rows(table: Path, needed: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row that is not blank; column names in lower case."""
    text = _text(table)
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _require_columns(columns, needed, table)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(columns):
                raise DataError(
                    "{table}, line {line}: {count} cells under {named} columns. "
                    "Put quotes around a cell that holds a comma.",
                    table=table,
                    line=reader.line_num,
                    count=len(cells),
                    named=len(columns),
                )
            yield reader.line_num, dict(zip(columns, map(str.strip, cells), strict=False))
    except csv.Error as error:
        raise DataError(
            "{table}, line {line}: not valid csv ({error}). Check its quotes.",
            table=table,
            line=reader.line_num,
            error=error,
        ) from None


def _require_columns(columns: list[str], needed: list[str], table: Path) -> None:
    """Check that each needed column is there, once."""
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            "{table}, line 1: no column {missing} among {columns}. "
            "Name the columns in the first line, with commas between.",
            table=table,
            missing=listed(map(repr, missing)),
            columns=", ".join(map(repr, columns)) or message("nothing"),
        )
    twice = [name for name in needed if columns.count(name) > 1]
    if twice:
        raise DataError(
            "{table}, line 1: the column {name!r} stands there twice. Rename or remove one.",
            table=table,
            name=twice[0],
        )


def _parse_label(text: str, here: str) -> tuple[int, str]:
    """Label and defect type."""
    parsed = parse_label(text)
    if parsed is None:
        raise DataError(
            "{here}: the label {text!r} does not say whether the image is normal. Write good or 0 for a normal image, "
            "1 or the name of the defect for an anomalous one.",
            here=here,
            text=text,
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
                "{here}: an anomalous image is marked for training, which uses normal images only. "
                "Mark it test, or correct its label.",
                here=here,
            )
        case "train":
            return "train"
    raise DataError(
        "{here}: the split is {text!r}. Write train or test, or leave it empty.", here=here, text=text
    )


def _existing(text: str, roots: tuple[Path, ...], here: str) -> Path:
    for root in roots:
        # Path.is_file takes several times as long, which counts in a table of 100 000 rows.
        if "\0" not in text and os.path.isfile(os.path.join(root, text)):  # noqa: PTH113, PTH118
            return root / text
    raise DataError(
        "{here}: the file {text} does not exist. Correct the path or remove the row.",
        here=here,
        text=roots[0] / text,
    )
