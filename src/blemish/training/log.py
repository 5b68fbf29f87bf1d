"""Writes the losses of every epoch during training."""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from blemish.errors import DataError, MissingExtraError
from blemish.files import whole_file
from blemish.types import Watch


@contextmanager
def csv_log(folder: Path, resume: bool) -> Iterator[Watch]:
    """A row per epoch in `losses.csv`, which is complete at any time; resumed training appends to it.

    Raises:
        DataError: If the file of the training to resume is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "losses.csv"
    rows: list[dict[str, str | float]] = _read_rows(path) if resume and path.exists() else []

    def write(epoch: int, losses: Mapping[str, float], /) -> None:
        rows[:] = [row for row in rows if int(row["epoch"]) < epoch] + [{"epoch": epoch, **losses}]
        with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)

    yield write


def _read_rows(path: Path) -> list[dict[str, str | float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, str | float]] = [*csv.DictReader(file, strict=True)]
        if all(str(row["epoch"]).isdecimal() and None not in row for row in rows):
            return rows
        reason = "a row has no epoch or too many values"
    except (ValueError, LookupError, csv.Error) as error:
        reason = repr(error)
    raise DataError(
        "{path} is damaged ({reason}), so no losses can be appended. Delete or rename it.",
        path=path,
        reason=reason,
    )


@contextmanager
def tensorboard_log(folder: Path, resume: bool) -> Iterator[Watch]:
    """Scalars for TensorBoard, one per loss.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional, and slow to import
    except ImportError as error:
        raise MissingExtraError(
            "This log needs the extra `tensorboard`: pip install 'blemish[tensorboard]'."
        ) from error
    if not resume:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    with SummaryWriter(folder) as writer:

        def write(epoch: int, losses: Mapping[str, float], /) -> None:
            for name, value in losses.items():
                writer.add_scalar(f"loss/{name}", value, epoch)
            writer.flush()

        yield write


LOGS: Mapping[str, Callable[[Path, bool], AbstractContextManager[Watch]]] = {
    "csv": csv_log,
    "tensorboard": tensorboard_log,
}
