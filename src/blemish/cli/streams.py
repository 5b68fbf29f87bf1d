"""The standard streams of the program: any text can be printed, and messages that cannot be written end no work."""

import io
import os
import sys
from contextlib import suppress


class ErrorStream(io.TextIOWrapper):
    """A standard error that loses what cannot be written, since results matter more than messages about them."""

    def write(self, text: str) -> int:
        """Write the text if that is possible."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Prepare stdout and stderr for texts with any file name; end the program if stdout is closed."""
    if sys.stderr is None:  # closed; a file that is opened later must not become the error stream
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # stays open until the end
    if sys.stdout is None:
        sys.exit("Error: The standard output is closed. Redirect it to a file, or to the null device.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = ErrorStream(  # detached, or the old stream would close the buffer when it is collected
            sys.stderr.detach(), encoding, errors="backslashreplace", line_buffering=True
        )
