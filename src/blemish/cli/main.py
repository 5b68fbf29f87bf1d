"""The command `blemish`: imports the subcommand, and prints errors and warnings as one sentence."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc
from typing import Any

import click

from blemish.cli.streams import prepare_streams
from blemish.cli.wide_text import WideFormatter
from blemish.errors import BlemishError, BlemishWarning
from blemish.messages import Message, message, translate_program

COMMANDS = (
    "demo",
    "suspects",
    "fit",
    "evaluate",
    "inspect",
    "calibrate",
    "rules",
    "certify",
    "replay",
    "update",
    "show",
    "methods",
    "doctor",
)
"""In the order of the help; each is a file of this folder that defines `command`."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""

EXAMPLES = """\b
blemish demo
blemish fit patchcore bottle/ -o bottle.blemish
blemish inspect bottle.blemish new/ -o heatmaps
"""


class Commands(click.Group):
    """Imports a subcommand when it is called, and turns exceptions into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name."""
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            if close:
                ctx.fail(
                    message(
                        "No such command {name!r}. Did you mean {close!r}?", name=cmd_name, close=close[0]
                    )
                )
            return None
        return translated(import_module(f"blemish.cli.{cmd_name}").command)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options, of which --help and --version print."""
        if "" in args:
            ctx.fail(
                message("An argument is empty, as an unset variable in quotes is. Leave it out or set it.")
            )
        with _errors_as_sentences(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand: exit code 1 and one sentence for the user's errors, 130 for Ctrl-C."""
        with _errors_as_sentences(ctx), _warnings_as_sentences():
            return super().invoke(ctx)


@contextmanager
def _errors_as_sentences(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except BlemishError as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        raise  # the reader of the output closed it; click ends the program properly
    except OSError as error:
        if error.strerror is None:
            raise
        named = f": {error.filename}" if error.filename else ""
        raise click.ClickException(
            message(
                "{strerror}{named}. Check the path, its permissions and the disk.",
                strerror=error.strerror,
                named=named,
            )
        ) from error
    except KeyboardInterrupt:
        click.echo(message("Interrupted; no file was left incomplete."), err=True)
        ctx.exit(INTERRUPTED)


def translated(command: click.Command) -> click.Command:
    """The command with its help in the user's language."""
    command.help = message(cleandoc(command.help or ""))
    command.short_help = message(command.short_help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            parameter.help = message(parameter.help or "")
    command.context_class = WideContext
    if isinstance(command, click.Group) and not isinstance(command, Commands):
        for inner in command.commands.values():
            translated(inner)
    return command


class WideContext(click.Context):
    """A context whose help is wrapped by columns."""

    formatter_class = WideFormatter


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", BlemishWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, BlemishWarning):
                _print_warning(str(message))
            else:
                show_others(message, category, *place, **more)

        warnings.showwarning = show
        yield


def _print_warning(text: str) -> None:
    click.secho(message("Warning: {text}", text=Message(text)), fg="yellow", bold=True, err=True)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
@click.version_option(package_name="blemish", prog_name="blemish")
@click.pass_context
def blemish(ctx: click.Context) -> None:
    """Find defects on products after learning from normal images only.

    只用良品图像学习，自动发现产品缺陷。
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Entry point of the program."""
    prepare_streams()
    translate_program()
    translated(blemish)(prog_name="blemish")
