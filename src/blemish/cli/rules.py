"""`blemish rules`: check rules, and let a model judge by them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import require_finite
from blemish.messages import message

if TYPE_CHECKING:
    from blemish.rules import Rules

EXAMPLES = """\b
blemish rules check bottle.toml
blemish rules set bottle.blemish bottle.toml
"""
FILE = click.Path(path_type=Path)


@click.group("rules", short_help="Grade defects by size and zone.", epilog=EXAMPLES)
def command() -> None:
    """Rules say which defects are critical, major, minor or allowed, by size and zone: docs/rules.md."""


@command.command("check", short_help="Check a file of rules.")
@click.argument("rules", type=FILE)
def check(rules: Path) -> None:
    """Check the TOML file RULES and say what it means; an error names line and entry."""
    click.echo(_read(rules).describe())


@command.command("set", short_help="Let a model judge by rules.")
@click.argument("model", type=FILE)
@click.argument("rules", type=FILE)
def set_(model: Path, rules: Path) -> None:
    """Let MODEL judge by the TOML file RULES, whose content becomes part of the model; its weights stay as they are."""
    from blemish.model_settings import set_rules

    read = _read(rules)
    set_rules(model, read)
    click.echo(read.describe())


def _read(path: Path) -> "Rules":
    from blemish.progress import progress_bars
    from blemish.rules import read_rules

    with progress_bars() as progress:
        return read_rules(path, progress)


def _corners(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, int]:
    """The numbers in COLUMNSxROWS."""
    columns, _, rows = value.lower().partition("x")
    if not (columns.isascii() and columns.isdigit() and rows.isascii() and rows.isdigit()):
        columns = rows = "0"
    if min(int(columns), int(rows)) < 3:
        raise click.BadParameter(
            message("{value!r} is not COLUMNSxROWS with at least 3 each, such as 9x6.", value=value)
        )
    return int(columns), int(rows)


@command.command("scale", short_help="Print the scale that a checkerboard shows.")
@click.argument("image", type=FILE)
@click.option(
    "--corners",
    required=True,
    callback=_corners,
    metavar="COLUMNSxROWS",
    help="Inner corners of the board in a row and in a column, such as 9x6.",
)
@click.option(
    "--square-mm",
    required=True,
    type=click.FloatRange(0, 1e4, min_open=True),
    callback=require_finite,
    help="Side of a square in millimetres.",
)
def scale(image: Path, corners: tuple[int, int], square_mm: float) -> None:
    """Print the table [scale] of rules from IMAGE, which shows a checkerboard that lies where the parts do."""
    from blemish.camera.scale import Scale
    from blemish.data.images import read_image

    found = Scale.from_checkerboard(read_image(image), corners, square_mm)
    points = ",\n".join(f"  {list(point)}" for point in found.points)
    click.echo(f"[scale]\npoints = [\n{points},\n]")


@command.command("remove", short_help="Let a model judge by its score alone.")
@click.argument("model", type=FILE)
def remove(model: Path) -> None:
    """Remove the rules of MODEL, which then judges by its score alone."""
    from blemish.model_settings import set_rules

    set_rules(model, None)
    click.echo(message("{model} judges by its score alone.", model=model))
