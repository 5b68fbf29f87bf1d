"""Writes files whole: a reader sees the old content or the new, never a part of it.

Content is written under a hidden unique name in the folder of its target, flushed to the disk and then renamed over
the target. If anything fails, the target stays as it was and the temporary file is removed. Several files that belong
together are stored under names that contain their sha256, and one file that names them is replaced last.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

PATIENCE, LONGEST_WAIT = 2.0, 600.0
"""Seconds after which a writer that waits for another says so, and after which it gives up."""
LOCK = ".lock"
"""Name of the file that a writer of a folder holds locked."""
_OPEN_FILE = re.compile(r"/dev/(fd/\d+|std(in|out|err))|/proc/[^/]+/(task/\d+/)?fd/\d+")
"""Names under which Linux gives a process its open files."""
_DIGITS = 16
"""Hex digits of a stored file's sha256 in its name."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path to write a new file to; it replaces `path` when the block ends without an error.

    The folder of `path` must exist. A link stays a link to the new content; the permissions of an old file stay. What
    cannot be replaced, such as a pipe or a device, gets the content when the block ends.

    Raises:
        OSError: If `path` is a folder, or the disk fails.
    """
    in_place = _is_special(path)
    target = path if in_place else resolved(path)
    temporary = _aside(Path(tempfile.gettempdir()) if in_place else target.parent)
    try:
        with _disk_errors_name(path, temporary):
            _require_no_folder(target)
            yield temporary
            if in_place:
                with temporary.open("rb") as content, target.open("wb") as special:
                    shutil.copyfileobj(content, special)
                return
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


def store(folder: Path, name: str, write: Callable[[Path], None]) -> str:
    """Write a new file, whole, to a folder under a name that contains its sha256.

    Args:
        folder: Must exist.
        name: Name without the sha256.
        write: Writes the content to the path that it gets.

    Returns:
        The sha256 in hex; `stored_path` gives the file.
    """
    temporary = _aside(folder)
    try:
        with _disk_errors_name(folder, temporary):
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
            _flush(temporary)
            digest = sha256_of(temporary)
            temporary.replace(_with_digest(folder / name, digest))
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def stored_path(folder: Path, name: str, sha256: str) -> Path:
    """The file that `store` wrote; or, in a folder of an earlier version, the file of that plain name."""
    path = _with_digest(folder / name, sha256)
    return path if path.exists() or not (folder / name).exists() else folder / name


def remove_stored(folder: Path, names: Collection[str], keep: Collection[Path]) -> None:
    """Remove what `store` wrote under these names and what killed writers left, except the files to keep.

    A file of a plain name, without a sha256, is not from `store` and stays. The caller must hold the folder `locked`.
    """
    own = [
        re.escape(_with_digest(Path(name), "#" * _DIGITS).name).replace(r"\#", "[0-9a-f]") for name in names
    ]
    pattern = re.compile("|".join([*own, r"\.[0-9a-f]{32}\.partial"]))
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path not in keep:
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait until no other process or thread holds the folder, and hold it.

    Args:
        folder: Must exist.
        waits: Called once if that takes more than `PATIENCE` seconds.

    Raises:
        OSError: If the folder does not exist or cannot be written.
        TimeoutError: If another one holds it for `LONGEST_WAIT` seconds.
    """
    from filelock import FileLock, Timeout  # loads slowly, and no inspection needs it

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        waits()
        try:
            lock.acquire(timeout=LONGEST_WAIT)
        except Timeout:
            reason = "Another process holds it"
            raise TimeoutError(errno.ETIMEDOUT, reason, os.fspath(folder / LOCK)) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            (folder / LOCK).unlink()  # those who wait notice, and lock the file that the next one makes
        lock.release()


def require_writable_file(path: Path) -> None:
    """Check that `whole_file(path)` can write, and create the parents of `path`.

    Raises:
        OSError: If it cannot, or `path` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_special(path):
        return
    target = resolved(path)
    _require_no_folder(target)
    temporary = _aside(target.parent)
    with _disk_errors_name(path, temporary):
        temporary.touch()
        temporary.unlink()


def is_replaceable(path: Path) -> bool:
    """Whether `whole_file(path)` would replace the content of a file; pipes, devices and open files have none."""
    return path.is_file() and not _is_special(path)


def require_writable_folder(path: Path) -> None:
    """Check that files can be written to a folder, or that it can be made; creates the parents of `path`.

    Raises:
        OSError: If not.
    """
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    temporary = _aside(path)
    try:
        with _disk_errors_name(path, temporary):
            temporary.touch()
            temporary.unlink()
    finally:
        if is_new:
            path.rmdir()


def resolved(path: Path) -> Path:
    """The absolute path without links; a loop of links, which `Path.resolve` refuses, stays, and so does a NUL."""
    return path.absolute() if "\0" in str(path) else Path(os.path.realpath(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _aside(folder: Path) -> Path:
    """A new name for a temporary file; it does not contain the target's, which may be as long as the system allows."""
    return folder / f".{uuid.uuid4().hex}.partial"


def _with_digest(path: Path, sha256: str) -> Path:
    return path.with_name(f"{path.stem}.{sha256[:_DIGITS]}{path.suffix}")


def _is_special(path: Path) -> bool:
    """Whether a path is a pipe, a device or another name of an open file."""
    names_open_file = _OPEN_FILE.fullmatch(os.fspath(path.absolute())) is not None
    return path.exists() and not path.is_dir() and (names_open_file or not path.is_file())


def _require_no_folder(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", os.fspath(target))


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
