"""The words and the width of the prose: no word that the glossary avoids, lines of at most 100 columns."""

import re
import unicodedata
from pathlib import Path

import pytest

from markdown_text import ROOT, markdown_files, read, tables, without_code, without_generated_parts

GLOSSARY = "docs/glossary.md"
MOST_COLUMNS = 100
NOT_PROSE = re.compile(r"\||#|<!--|(\s*[-*] )?(!?\[[^\]]*\]\([^)]*\)|<?https://\S+)[.,;:]?$")
"""The start of a table's row, a heading or a comment, or a line that is one link."""

PATHS = pytest.mark.parametrize("path", markdown_files(), ids=lambda path: path.relative_to(ROOT).as_posix())


def words_to_avoid() -> list[str]:
    """The last column of the glossary."""
    return [row[-1] for row in tables(read(GLOSSARY))[0][1:] if row[-1]]


def avoided_words(text: str, words: list[str]) -> list[str]:
    """What of `words` a page says outside of code blocks, in singular or plural, also across a line break."""
    patterns = [r"\s+".join(map(re.escape, word.split())) for word in words]
    return re.findall(rf"\b(?:{'|'.join(patterns)})s?\b", without_code(text), re.IGNORECASE)


def columns(line: str) -> int:
    """Width of a line where Chinese characters are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def wide_lines(text: str) -> list[str]:
    """Lines of prose, not generated, with more than 100 columns."""
    lines = without_code(without_generated_parts(text)).splitlines()
    return [line for line in lines if columns(line) > MOST_COLUMNS and not NOT_PROSE.match(line)]


def test_the_glossary_names_words_to_avoid() -> None:
    assert {"picture", "made wrong", "learned by heart"} <= set(words_to_avoid())


def test_words_are_found_whole_and_outside_of_code() -> None:
    words = ["picture", "made wrong"]
    assert avoided_words("Pictures, a PICTURE;\nmade\nwrong\n", words) == [
        "Pictures",
        "PICTURE",
        "made\nwrong",
    ]
    assert avoided_words("pictured, unmade wrong\n```text\na picture\n```\n", words) == []


def test_wide_lines_are_found_where_they_are_prose() -> None:
    wide, link = "x" * 101, f"[x](https://{'x' * 101})"
    assert wide_lines(f"{wide}\n- {wide}\n  {wide}\n") == [wide, f"- {wide}", f"  {wide}"]
    assert wide_lines(f"see {link}\n") == [f"see {link}"]
    assert wide_lines("x" * 100 + "\n" + "图" * 50) == []
    assert wide_lines("图" * 51) == ["图" * 51]
    others = [f"| {wide} |", f"# {wide}", f"<!-- {wide} -->", link, f"- {link}", f"```sh\n{wide}\n```"]
    assert wide_lines("\n".join([*others, f"<!-- speed -->\n{wide}\n<!-- /speed -->\n"])) == []


@pytest.mark.parametrize(
    "path",
    [path for path in markdown_files() if path != ROOT / GLOSSARY],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_page_says_what_the_glossary_avoids(path: Path) -> None:
    assert avoided_words(path.read_text("utf-8"), words_to_avoid()) == []


@PATHS
def test_prose_is_at_most_100_columns_wide(path: Path) -> None:
    assert wide_lines(path.read_text("utf-8")) == []
