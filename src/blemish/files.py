"""Writes files and folders whole: a reader sees the old content or the new, never a part of it.

Content is written under a hidden unique name in the folder of its target, flushed to the disk and then renamed over
the target. If anything fails, the target stays as it was and the temporary file or folder is removed.
"""

import errno
import glob
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

ABANDONED = 24 * 3600.0
"""Age in seconds of a temporary folder that a killed process must have left; others may still be written."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path to write a new file to; it replaces `path` when the block ends without an error.

    The folder of `path` must exist. A link stays a link to the new content; the permissions of an old file stay.

    Raises:
        OSError: If `path` exists and is not a regular file, or the disk fails.
    """
    target, temporary = _target_and_temporary(path)
    try:
        with _disk_errors_name(path, temporary):
            yield temporary
            _flush(temporary)
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Replace the content of a file; text is written as UTF-8, line ends unchanged."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it replaces `path`, with all it holds, when the block ends without an error.

    Parents of `path` are created. No operating system renames a folder over another one, so the old folder is renamed
    first: for a moment, a reader finds no folder. If the process is killed in that moment, `left_aside` finds it.

    Raises:
        OSError: If the disk fails.
    """
    temporary = _beside(path, "partial")
    temporary.mkdir(parents=True)
    try:
        with _disk_errors_name(path, temporary):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    now = time.time()
    for left in _leftovers(path, "*"):
        with suppress(FileNotFoundError):  # another process may remove it at the same time
            if left.suffix == ".old" or now - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def require_writable_file(path: Path) -> None:
    """Check that `whole_file(path)` can create its temporary file, and create the parents of `path`.

    Raises:
        OSError: If it cannot, or `path` exists and is not a regular file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _, temporary = _target_and_temporary(path)
    temporary.touch()
    temporary.unlink()


def require_writable_folder(path: Path) -> None:
    """Check that `whole_folder(path)` can create its temporary folder, and create the parents of `path`.

    Raises:
        OSError: If it cannot.
    """
    temporary = _beside(path, "partial")
    temporary.mkdir(parents=True)
    temporary.rmdir()


def left_aside(path: Path) -> Path | None:
    """The latest complete folder that `whole_folder(path)` left if its process was killed while `path` was absent."""
    left = [] if path.exists() else _leftovers(path, "old")
    return max(left, key=lambda old: old.stat().st_mtime, default=None)


def restore_left_aside(path: Path) -> None:
    """Rename `left_aside(path)`, if there is one, to `path`; no other process may be writing `path`."""
    old = left_aside(path)
    if old is not None:
        old.rename(path)


def remove_leftovers(path: Path) -> None:
    """Remove what `whole_folder(path)` left if its process was killed; no other process may be writing `path`."""
    for leftover in _leftovers(path, "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def resolved(path: Path) -> Path:
    """The absolute path without links; a loop of links, which `Path.resolve` refuses, stays."""
    return Path(os.path.realpath(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _target_and_temporary(path: Path) -> tuple[Path, Path]:
    """The file that `path` is or links to, which must be a regular one if it exists, and a new name beside it."""
    target = resolved(path)
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    # The name does not contain the target's, which may be as long as the file system allows.
    return target, target.with_name(f".{uuid.uuid4().hex}.partial")


def _beside(path: Path, end: str, unique: str = "") -> Path:
    return path.with_name(f".{path.name}.{unique or uuid.uuid4().hex}.{end}")


def _leftovers(path: Path, end: str) -> list[Path]:
    return [*path.parent.glob(_beside(Path(glob.escape(path.name)), end, "?" * 32).name)]


@contextmanager
def _disk_errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """Make every error of the disk an OSError that names `path`; safetensors raises a class of its own."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), os.fspath(path)) from error
    except OSError as error:
        hidden = error.filename is None or str(error.filename).startswith(os.fspath(temporary))
        if hidden and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def _flush(path: Path) -> None:
    """Write the content to the disk before it is renamed; else a power failure could leave an empty file."""
    with path.open("rb+") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def _swap(new: Path, path: Path) -> None:
    """Rename the new folder to `path`; the old one is restored if that fails, and removed otherwise."""
    old = _beside(path, "old")
    try:
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
