"""Reading the project's Markdown: which files there are, their code blocks, headings, tables and links."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_RESULTS = re.compile(r"<!-- results\S* -->.*?<!-- /results -->", re.DOTALL)
_GENERATED = re.compile(r"<!-- (\w+)(?::\w+)? -->\n.*?<!-- /\1 -->", re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


def markdown_files() -> list[Path]:
    """All pages of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def read(name: str) -> str:
    """A page by its path from the root."""
    return (ROOT / name).read_text("utf-8")


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [block.text for block in map(Block._make, _FENCE.findall(text)) if block.language == language]


def commands(text: str) -> list[str]:
    """The lines of all sh blocks, without their comments."""
    lines = "\n".join(code_blocks(text, "sh")).splitlines()
    return [bare for line in lines if (bare := line.partition(" #")[0].strip())]


def prose(text: str) -> str:
    """What is left without code blocks and measured results."""
    return without_code(_RESULTS.sub("", text))


def without_code(text: str) -> str:
    """What is left without fenced blocks."""
    return _FENCE.sub("", text)


def without_generated_parts(text: str) -> str:
    """What is left without the parts between `<!-- NAME -->` and `<!-- /NAME -->`."""
    return _GENERATED.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """Level and words of each heading, in order."""
    found = re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)
    return [(len(signs), words) for signs, words in found]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells; the dashes are left out."""
    found: list[list[list[str]]] = [[]]
    for line in prose(text).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not set("".join(cells)) <= {"-"}:
                found[-1].append(cells)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def links(text: str) -> list[str]:
    """Targets of all links and images."""
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """What `#…` can point to: headings in lower case, spaces as dashes, punctuation gone."""
    return {re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for _, words in headings(text)}
