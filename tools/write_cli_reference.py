"""Write docs/cli.md from the commands' own help texts; a test compares the two."""

from pathlib import Path

import click

from blemish.cli.main import COMMANDS, blemish

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
WIDTH = 100

INTRODUCTION = """\
# Command line

This page is written by `tools/write_cli_reference.py` from the help texts: change those, then run it.

Results go to stdout, progress and warnings to stderr. `python -m blemish` is the same program.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | an error, one sentence on stderr; `inspect` met a file it could not read; `doctor` found something broken |
| 2 | the command line is wrong |
| 3 | `inspect --fail-on ng` found an NG image |
| 130 | interrupted |

| Environment variable | Meaning |
|---|---|
| `BLEMISH_WEIGHTS` | folder in which weights are looked for first ([backbones](backbones.md)) |
| `BLEMISH_WEIGHTS_URL` | address to download weights from, instead of the official one |
| `BLEMISH_MAX_PIXELS` | largest picture that is decoded, 200 million pixels unless set |
| `BLEMISH_DATA` | data sets for the tests and benchmarks of blemish itself |
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(cli_reference(), "utf-8")


def cli_reference() -> str:
    """The whole page."""
    parent = _context(blemish, "blemish", None)
    sections = [_section(parent)]
    for name in COMMANDS:
        command = blemish.get_command(parent, name)
        assert command is not None, name
        sections.append(_section(_context(command, name, parent)))
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
