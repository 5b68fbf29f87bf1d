"""Wraps help texts by columns: a Chinese character takes two, and a line may end after any of them."""

import re
from collections.abc import Iterable

import click

from blemish.messages import columns, message

OPENING, CLOSING = "（《「“‘", "，。、；：？！）》」”’…"
"""Marks that do not end a line, and that do not begin one."""
_PIECE = re.compile(
    rf"[{OPENING}]*(?:[^\W\u0000-\u2e7f]|[^\s\u2e80-\uffff]+|[^\s{OPENING}])[{CLOSING}]*|[{OPENING}]+|\s+"
)
"""What stays on one line: a wide character or a narrow word, with its marks; or space."""


class WideFormatter(click.HelpFormatter):
    """Click's help with its lines broken by columns, where click counts characters and breaks at spaces only."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the program's name and its arguments."""
        super().write_usage(prog, args, message("Usage: ") if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """Write the line above a list."""
        self.write(" " * self.current_indent + message("{heading}:", heading=heading) + "\n")

    def write_text(self, text: str) -> None:
        """Write a paragraph at the current indentation."""
        if columns(text) == len(text):
            super().write_text(text)
            return
        indent = " " * self.current_indent
        for paragraph in text.split("\n\n"):
            lines = wrap(" ".join(paragraph.split()), self.width - self.current_indent)
            self.write("".join(f"{indent}{line}\n" for line in lines))
            self.write("\n")
        self.buffer.pop()

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write two columns: names, and what they mean."""
        rows = list(rows)
        if all(columns(meaning) == len(meaning) for _, meaning in rows):
            super().write_dl(rows, col_max, col_spacing)
            return
        first = min(max(columns(name) for name, _ in rows), col_max) + col_spacing
        indent = " " * (self.current_indent + first)
        for name, meaning in rows:
            lines = wrap(" ".join(meaning.split()), self.width - len(indent))
            self.write(" " * self.current_indent + name)
            if columns(name) <= first - col_spacing and lines:
                self.write(" " * (first - columns(name)) + lines.pop(0))
            self.write("\n" + "".join(f"{indent}{line}\n" for line in lines))


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, unless a single word is longer."""
    lines, line = [], ""
    for piece in _PIECE.findall(text):
        if line and columns((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()] if line.strip() else lines
