"""Add new texts to the catalogue of Chinese texts and compile it: run it after a change of texts for the user.

    python tools/write_messages.py

Texts are collected from the source (messages, errors, phases of progress), from the commands' help, from the
descriptions of records and of methods' arguments, and from click. Translate those that it lists as missing in
`src/blemish/locale/zh/LC_MESSAGES/blemish.po`, then run it again. A test compares the result with the files.
"""

import ast
import inspect
import io
import pkgutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

import blemish as blemish_package
from blemish import __version__, errors
from blemish.cli.main import COMMANDS, blemish
from blemish.cli.methods import summary
from blemish.data.layouts import LAYOUTS
from blemish.messages import CATALOGUES, DOMAIN
from blemish.methods import CATALOGUE as METHODS
from blemish.plugins import find_method
from blemish.records import Record

SOURCE = CATALOGUES.parent
CHINESE = CATALOGUES / "zh" / "LC_MESSAGES" / f"{DOMAIN}.po"
CALLS = {"message", "progress", *(name for name, _ in inspect.getmembers(errors, inspect.isclass))}
"""Functions and classes whose first argument is a text for the user."""

BEGINNING = datetime(2026, 11, 26, tzinfo=UTC)

Text = str | tuple[str, str]
"""A template, or its singular and plural, of which Chinese needs one."""


def main() -> None:
    """Write the catalogue; list what has no translation."""
    catalogue = current()
    for path, content in files(catalogue):
        path.write_bytes(content)
    missing = [one.id for one in catalogue if one.id and not one.string]
    print("\n".join(f"not translated: {text!r}" for text in missing) or "All texts are translated.")


def current() -> Catalog:
    """The catalogue with exactly the texts of today; removed texts are forgotten, no translation is guessed."""
    old = read_po(io.BytesIO(CHINESE.read_bytes()))
    new = Catalog(
        locale="zh",
        domain=DOMAIN,
        header_comment="# Chinese texts of blemish; see tools/write_messages.py.",
        project="blemish",
        version=__version__,
        last_translator="blemish",
        language_team="blemish",
        msgid_bugs_address="blemish",
        creation_date=BEGINNING,  # dates of writing would change the files without a change of texts
        revision_date=BEGINNING,
        fuzzy=False,
    )
    for text in dict.fromkeys(texts()):
        known = old.get(text)
        new.add(text, known.string or None if known else None)
    return new


def files(catalogue: Catalog) -> Iterator[tuple[Path, bytes]]:
    """The catalogue's file and its compiled form."""
    for path, write in ((CHINESE, write_po), (CHINESE.with_suffix(".mo"), write_mo)):
        buffer = io.BytesIO()
        write(buffer, catalogue)
        yield path, buffer.getvalue()


def texts() -> Iterator[Text]:
    """All texts for the user, in the order of the source."""
    modules = sorted(SOURCE.rglob("*.py"))
    for path in modules:
        yield from called(path, CALLS)
    yield from of_commands()
    for record in records():
        yield from (field.description for field in record.model_fields.values() if field.description)
    for layout in LAYOUTS.values():
        yield from filter(None, (layout.looks_like, layout.without_masks))
    for name in METHODS:
        method = find_method(name)
        yield summary(method)
        yield from (one.meaning for one in method.declared.arguments.values())
        if method.auxiliary_use:
            yield method.auxiliary_use
    yield from ("required", "collecting", "finishing")  # click and training pass them on as values
    for path in sorted(Path(click.__file__).parent.glob("*.py")):
        yield from called(path, {"_", "ngettext"})


def called(path: Path, names: Iterable[str]) -> Iterator[Text]:
    """The constant first arguments of calls of these names, or both of a choice; for `ngettext`, the first two."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = ast.unparse(node.func).split(".")[-1]
        if name == "ngettext" and name in names:
            singular, plural = (ast.literal_eval(one) for one in node.args[:2])
            yield singular, plural
        elif name in names:
            first = node.args[0]
            choices = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            yield from (
                one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )


def of_commands() -> Iterator[str]:
    """The help of the commands and of their options."""
    commands = [blemish, *(import_module(f"blemish.cli.{name}").command for name in COMMANDS)]
    groups = [command for command in commands[1:] if isinstance(command, click.Group)]
    for command in (*commands, *(inner for group in groups for inner in group.commands.values())):
        yield from (inspect.cleandoc(text) for text in (command.help, command.short_help) if text)
        yield from (one.help for one in command.params if isinstance(one, click.Option) and one.help)


def records() -> list[type[Record]]:
    """All records of blemish, by their modules and names, whatever else this process has imported."""
    for module in pkgutil.walk_packages(blemish_package.__path__, "blemish."):
        if module.name != "blemish.__main__":
            import_module(module.name)
    found: list[type[Record]] = []
    waiting: list[type[Record]] = [Record]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found += [record for record in below if record.__module__.startswith("blemish.")]
    return sorted(found, key=lambda record: (record.__module__, record.__qualname__))


if __name__ == "__main__":
    main()
