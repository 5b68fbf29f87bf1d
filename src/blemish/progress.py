"""Shows progress on stderr: bars on a terminal, occasional lines in a log or a notebook."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from blemish.messages import message
from blemish.types import Progress

SILENT_SECONDS = 2.0
"""A phase that takes less time leaves no line in a log."""
SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Give a callable for `progress` arguments, which shows a bar with the time left for every phase.

    with blemish.progress_bars() as progress:
        model = blemish.fit("patchcore", data.train, progress=progress)
    """
    if sys.stderr is None or not sys.stderr.isatty():  # None without a console, as in a service
        yield Lines()
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
    )
    # stdout may be a file, and redirected output would go to stderr instead.
    with progress.Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def report(phase: str, done: int, total: int | None, note: str = "", /) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(message(phase), total=total, note=note)
            bars.update(tasks[phase], completed=done, total=total, note=note)

        yield report


class Lines:
    """Progress for logs: the first line after 2 seconds of a phase, then one every 10 seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.phase = ""
        self.reported = clock()
        self.first = self.reported, 0  # first report of the phase: its time and the number done
        self.next_line = 0.0

    def __call__(self, phase: str, done: int, total: int | None, note: str = "", /) -> None:
        """Write a line if it is time for one."""
        now = self.clock()
        if phase != self.phase:  # it began at the last report of the phase before
            self.phase, self.first = phase, (now, done)
            self.next_line = self.reported + SILENT_SECONDS
        self.reported = now
        if now >= self.next_line:
            self.next_line = now + SECONDS_BETWEEN_LINES
            position = _position(done, total, now - self.first[0], done - self.first[1])
            if sys.stderr is not None:
                sys.stderr.write(f"{message(phase)} {position}{', ' * bool(note)}{note}\n")
                sys.stderr.flush()


def _position(done: int, total: int | None, seconds: float, newly: int) -> str:
    """Number done, total and time left, from the `newly` done in `seconds`: resumed work does not begin at 0."""
    if total is None:
        return str(done)
    if newly <= 0:
        return f"{done}/{total}"
    left = message("about {seconds:.0f} s left", seconds=seconds / newly * (total - done))
    return message("{done}/{total}, {left}", done=done, total=total, left=left)
