"""Tables of measured rows: kept as csv, shown in the pages that have the markers for them."""

import csv
import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from blemish.files import whole_file, write_whole

ROOT = Path(__file__).parents[1]
Row = dict[str, str]


def read_rows(table: Path) -> list[Row]:
    """Rows measured so far."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write all rows, whole or not at all."""
    with whole_file(table) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def fill_pages(marker: str, text: Callable[[str | None], str]) -> None:
    """Put texts between `<!-- marker -->` or `<!-- marker:WHICH -->` and `<!-- /marker -->`, wherever they are.

    `text` makes one from WHICH, None where there is none.
    """
    pattern = rf"(<!-- {marker}(?::(\w+))? -->\n).*?(<!-- /{marker} -->)"
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        old = page.read_text(encoding="utf-8")
        new = re.sub(pattern, lambda m: f"{m[1]}\n{text(m[2])}\n\n{m[3]}", old, flags=re.DOTALL)
        if new != old:
            write_whole(page, new)


def machine() -> str:
    """Cores and the processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", information.read_text()) if information.exists() else None
    return f"{os.cpu_count()} cores, {found[1] if found else platform.processor() or platform.machine()}"


def versions(*packages: str) -> str:
    """Name and version of each package."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def measured_on(rows: Iterable[Row]) -> list[str]:
    """A line for each machine and set of versions."""
    return [f"Measured on {m}." for m in sorted({f"{row['machine']}; {row['versions']}" for row in rows})]
