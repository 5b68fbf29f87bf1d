"""What `blemish fit` writes beside the model: the state of unfinished training, and the log of its losses."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.messages import message

if TYPE_CHECKING:
    from blemish.types import Watch


def require_output(output: Path) -> None:
    """Check, before training, that the model can be written."""
    from blemish.errors import ModelError
    from blemish.files import require_writable_folder, resolved
    from blemish.model_folder import require_replaceable

    target = resolved(output)
    require_replaceable(target)
    for folder in (target, _beside(output, ".{}.unfinished")):
        try:
            require_writable_folder(folder)
        except OSError as error:
            raise ModelError(
                "{folder} cannot be written: {strerror}. Name another folder with -o.",
                folder=folder,
                strerror=error.strerror,
            ) from error


def _beside(output: Path, name: str) -> Path:
    """A path beside the model, `name` with the model's name filled in."""
    # "." and ".." get the name of their folder; links stay, since the model may lie on another disk.
    place = output if output.name not in ("", "..") else Path(os.path.abspath(output))  # noqa: PTH100
    return place.with_name(name.format(place.name))


@contextmanager
def unfinished_state(output: Path) -> Iterator[Path]:
    """Folder of the checkpoint; removed once the model is saved."""
    folder = _beside(output, ".{}.unfinished")
    try:
        yield folder
    except KeyboardInterrupt:
        if folder.exists():
            click.echo(
                message("The state of the training is kept: continue with the same command and --resume."),
                err=True,
            )
        raise
    shutil.rmtree(folder, ignore_errors=True)


def training_log(kind: str | None, output: Path, resume: bool) -> "AbstractContextManager[Watch]":
    """The log of the losses of every epoch."""
    from blemish.types import no_watch

    if kind is None:
        return nullcontext(no_watch)
    from blemish.training.log import LOGS

    return LOGS[kind](_beside(output, "{}.log"), resume)
