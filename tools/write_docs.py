"""Write the parts of the docs that follow from the code: run it after a change of commands, methods or arguments.

    python tools/write_docs.py

It writes docs/cli.md from the help texts; the tables of arguments in docs/methods/; the lists of methods in the
READMEs, the front pages and docs/api.md, between `<!-- NAME -->` and `<!-- /NAME -->`. A method's two summaries
stand in its own page, as `<!-- en | idea | what it suits -->` and `<!-- zh | … | … -->`. A test compares all of it
with the files.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from blemish.cli.main import COMMANDS, blemish
from blemish.methods import CATALOGUE
from blemish.plugins import find_method

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100

INTRODUCTION = """\
# Command line

This page is written by `tools/write_docs.py` from the help texts: change those, then run it.

Results go to stdout, progress and warnings to stderr. `python -m blemish` is the same program.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | an error, one sentence on stderr; `inspect` met a file without verdict or heat map; `doctor` found a fault |
| 2 | the command line is wrong |
| 3 | `inspect --fail-on ng` found an NG image, even if other files failed |
| 130 | interrupted |

| Environment variable | Meaning |
|---|---|
| `BLEMISH_WEIGHTS` | folder in which weights are looked for first ([backbones](backbones.md)) |
| `BLEMISH_WEIGHTS_URL` | address to download weights from, instead of the official one |
| `BLEMISH_MAX_PIXELS` | largest image that is decoded, 200 million pixels unless set |
| `BLEMISH_DATA` | data sets for the tests and benchmarks of blemish itself |
"""

HEADERS = {
    "en": ("| Method | Idea | Suits | ONNX |", "yes", "no"),
    "zh": ("| 方法 | 原理 | 适用 | ONNX |", "支持", "不支持"),
}


def main() -> None:
    """Write all pages that changed."""
    for path, text in pages():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def pages() -> Iterator[tuple[Path, str]]:
    """Every page with generated parts, as it should be."""
    yield ROOT / "docs" / "cli.md", cli_reference()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/methods/*.md")):
        if path.name != "cli.md":
            yield path, filled(path)


def filled(path: Path) -> str:
    """A page with its generated parts between their markers."""
    language = "zh" if ".zh-CN" in path.name else "en"
    folder = path.parent.relative_to(ROOT).as_posix()
    to_pages = {".": "docs/methods/", "docs": "methods/", "docs/methods": ""}[folder]
    parts: dict[str, Callable[[str], str]] = {
        "arguments": lambda _: argument_table(path.stem),
        "methods": lambda most: method_table(language, to_pages, int(most) if most else len(CATALOGUE)),
        "classes": lambda _: class_list(),
    }
    text = path.read_text("utf-8")
    for name, part in parts.items():
        text = re.sub(
            rf"(<!-- {name}(?::(\d+))? -->\n).*?(<!-- /{name} -->)",
            lambda found, part=part: f"{found[1]}\n{part(found[2])}\n\n{found[3]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


def argument_table(method: str) -> str:
    """Name, default, range and meaning of a method's arguments."""
    rows = ["| Argument | Default | Value | Meaning |", "|---|---|---|---|"]
    for one in find_method(method).declared.arguments.values():
        default = repr(one.default).replace("'", '"')
        rows.append(f"| `{one.name}` | `{default}` | {one.expected} | {one.meaning} |")
    return "\n".join(rows)


def method_table(language: str, to_pages: str, most: int) -> str:
    """A row for each of the first methods of the catalogue."""
    header, yes, no = HEADERS[language]
    rows = [header, "|---|---|---|---|"]
    for name in list(CATALOGUE)[:most]:
        idea, suits = summary(name, language)
        exports = yes if find_method(name).exports else no
        rows.append(f"| [`{name}`]({to_pages}{name}.md) | {idea} | {suits} | {exports} |")
    return "\n".join(rows)


def summary(method: str, language: str) -> tuple[str, str]:
    """What a method's page says of its idea and of what it suits."""
    text = (ROOT / "docs" / "methods" / f"{method}.md").read_text("utf-8")
    found = re.search(rf"^<!-- {language} \| (.+?) \| (.+?) -->$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(
            f"docs/methods/{method}.md lacks the line <!-- {language} | idea | what it suits -->."
        )
    return found[1], found[2]


def class_list() -> str:
    """The classes of the catalogue with their pages, for docs/api.md."""
    return "\n".join(
        f"- `{target.partition(':')[2]}`: see [{name}](methods/{name}.md)."
        for name, target in CATALOGUE.items()
    )


def cli_reference() -> str:
    """The page about the command line."""
    parent = _context(blemish, "blemish", None)
    sections = [_section(parent)]
    for name in COMMANDS:
        command = blemish.get_command(parent, name)
        assert command is not None, name
        context = _context(command, name, parent)
        sections.append(_section(context))
        if isinstance(command, click.Group):
            sections += [
                _section(_context(one, one.name or "", context)) for one in command.commands.values()
            ]
    return "\n".join([INTRODUCTION, *sections])


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command, parent=parent, info_name=name, terminal_width=WIDTH, **command.context_settings
    )


def _section(context: click.Context) -> str:
    text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    return f"## {context.command_path}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    main()
