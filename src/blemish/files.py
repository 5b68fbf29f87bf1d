"""Writes files and folders whole: a reader sees the old content or the new, never a part of it.

Content is written under a hidden unique name in the folder of its target, flushed to the disk and then renamed over
the target. If anything fails, the target stays as it was and the temporary file or folder is removed.
"""

import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path to write a new file to; it replaces `path` when the block ends without an error.

    The folder of `path` must exist.
    """
    # The name does not contain the target's, which may be as long as the file system allows.
    temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
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
    first: for a moment, a reader finds no folder.
    """
    temporary = _beside(path, "partial")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what `whole_folder(path)` left if its process was killed; no other process may be writing `path`."""
    for leftover in path.parent.glob(_beside(Path(glob.escape(path.name)), "*", "?" * 32).name):
        shutil.rmtree(leftover, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path, end: str, unique: str = "") -> Path:
    return path.with_name(f".{path.name}.{unique or uuid.uuid4().hex}.{end}")


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
