"""No text of docs and source uses a word that the glossary avoids; the docs' lines have at most 100 columns."""

import ast
import re
import tokenize
import unicodedata
from io import StringIO
from pathlib import Path

import pytest

from markdown_text import ROOT, markdown_files, read, tables, without_code, without_generated_parts

GLOSSARY = "docs/glossary.md"
SOURCE = ROOT / "src" / "blemish"
MAX_COLUMNS = 100
NOT_PROSE = re.compile(r"\||#|<!--|(\s*[-*] )?(!?\[[^\]]*\]\([^)]*\)|<?https://\S+)[.,;:]?$")
"""The start of a table's row, a heading or a comment, or a line that is one link."""

PATHS = pytest.mark.parametrize("path", markdown_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
SOURCES = sorted(path for suffix in ("py", "j2", "po") for path in SOURCE.rglob(f"*.{suffix}"))


def words_to_avoid() -> list[str]:
    """The last column of the glossary, where 、 stands between two words."""
    return [word for row in tables(read(GLOSSARY))[0][1:] for word in row[-1].split("、") if word]


def avoided_words(text: str, words: list[str]) -> list[str]:
    """Occurrences of `words` outside of code blocks, in singular or plural, also across a line break.

    Chinese is written without spaces, so a Chinese word is found within others, too.
    """
    patterns = {word: r"\s+".join(map(re.escape, word.split())) for word in words}
    either = "|".join(
        rf"\b{pattern}s?\b" if word.isascii() else pattern for word, pattern in patterns.items()
    )
    return re.findall(either, without_code(text), re.IGNORECASE)


def columns(line: str) -> int:
    """Width of a line where Chinese characters are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def wide_lines(text: str) -> list[str]:
    """Lines of prose, not generated, with more than 100 columns."""
    lines = without_code(without_generated_parts(text)).splitlines()
    return [line for line in lines if columns(line) > MAX_COLUMNS and not NOT_PROSE.match(line)]


def half_width_marks(text: str) -> list[str]:
    """ASCII punctuation beside a Chinese character, outside of code."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "`", without_code(text))
    return re.findall(r".?[\u3400-\u9fff][,;:?!()]|[,;:?!()][\u3400-\u9fff].?", prose)


def prose_of(source: str) -> str:
    """The docstrings, comments and strings with spaces of Python source, with a ¶ between any two that are apart."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\s", node.value)
    ]
    comments = ""
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += token.string.removeprefix("#") + "\n"
        elif token.type != tokenize.NL:
            comments += "¶"
    return "¶".join([*texts, comments])


def test_the_glossary_names_words_to_avoid() -> None:
    assert {"picture", "made wrong", "learned by heart", "人工缺陷", "标定"} <= set(words_to_avoid())


def test_words_are_found_whole_and_outside_of_code() -> None:
    words = ["picture", "made wrong"]
    assert avoided_words("Pictures, a PICTURE;\nmade\nwrong\n", words) == [
        "Pictures",
        "PICTURE",
        "made\nwrong",
    ]
    assert avoided_words("pictured, unmade wrong\n```text\na picture\n```\n", words) == []
    assert avoided_words("被标定过的阈值", [*words, "标定"]) == ["标定"]


def test_half_width_marks_are_found_beside_chinese() -> None:
    assert half_width_marks("先学习,再检测") == ["学习,"]
    assert half_width_marks("见[校准](a,b.md)：`图,像`。\n```sh\n图,像\n```\n") == []


@pytest.mark.parametrize(
    "source",
    [
        '"""A picture."""',
        'x = 1\n"""A\npicture."""',
        "x = 1  # a picture",
        "# one made\n# wrong",
        'raise ValueError("no " f"picture {name}")',
        'text = f"{name} of a {kind} picture"',
        "help = 'a made wrong' ' image'",
    ],
)
def test_words_are_found_in_docstrings_comments_and_strings(source: str) -> None:
    assert len(avoided_words(prose_of(source), ["picture", "made wrong"])) == 1


def test_names_and_strings_without_spaces_are_not_prose() -> None:
    source = "def picture(pictures):\n    return {'picture': pictures['made'], \"wrong\": 1}\n"
    assert avoided_words(prose_of(source), ["picture", "made wrong"]) == []
    assert avoided_words(prose_of("# made\nx = 1\n# wrong\n"), ["made wrong"]) == []


def test_the_whole_package_is_searched() -> None:
    names = {path.relative_to(SOURCE).as_posix() for path in SOURCES}
    assert {"__init__.py", "cli/fit.py", "training/loop.py", "reports/templates/report.html.j2"} <= names
    assert len(names) > 80


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_source_says_what_the_glossary_avoids(path: Path) -> None:
    text = path.read_text("utf-8")
    assert avoided_words(prose_of(text) if path.suffix == ".py" else text, words_to_avoid()) == []


@pytest.mark.parametrize("path", [path for path in markdown_files() if ".zh-CN" in path.name], ids=str)
def test_chinese_has_full_width_punctuation(path: Path) -> None:
    assert half_width_marks(path.read_text("utf-8")) == []


@PATHS
def test_prose_is_at_most_100_columns_wide(path: Path) -> None:
    assert wide_lines(path.read_text("utf-8")) == []
