"""A model's folder on disk: one change at a time, and readers see the model before it or after it.

The manifest names the other files, which contain their sha256 in their names; so replacing the manifest, one file,
replaces the model. Nothing else in the folder is touched.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from blemish.errors import BlemishWarning, ModelError
from blemish.files import locked, remove_stored, sha256_of, stored_path, write_whole
from blemish.manifest import FILE, FORMER, GRAPH, WEIGHTS, Manifest, is_manifest, read_manifest
from blemish.messages import message

T = TypeVar("T")


def require_replaceable(folder: Path) -> None:
    """Check that a model may be written to `folder`, a resolved path: it is absent, empty or a model.

    Raises:
        ModelError: If anything else is there.
    """
    if not os.path.lexists(folder) or is_manifest(folder / FILE):
        return
    if not folder.is_dir() or any(folder.iterdir()):  # a loop of links exists, but is no folder
        raise ModelError(
            "{folder} exists and is not a model, so it is not overwritten. Name another folder.",
            folder=folder,
        )


def read_consistently(folder: Path, read: Callable[[Manifest], T]) -> T:
    """What `read` returns for the folder's manifest; it is called again if the model was replaced meanwhile.

    Raises:
        ModelError: If the folder is not a model, or `read` raises it for a manifest that is still there.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            return read(manifest)
        except ModelError:
            if read_manifest(folder) == manifest:
                raise


def checked_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of one of the model's files, after comparing its sha256.

    Args:
        folder: The model's folder.
        manifest: Its manifest.
        name: `WEIGHTS` or `GRAPH`.

    Raises:
        ModelError: If the manifest does not list it, it is absent, or its sha256 differs.
    """
    if name not in manifest.files:
        raise ModelError(
            "{folder} holds no {name}. Use another runtime; `blemish fit --onnx` makes the files of both.",
            folder=folder,
            name=name,
        )
    path = stored_path(folder, name, manifest.files[name])
    try:
        digest = sha256_of(path) if path.is_file() else None
    except FileNotFoundError:  # removed at this moment
        digest = None
    if digest is None:
        raise ModelError("{path} is missing. The model folder is incomplete; copy it again.", path=path)
    if digest != manifest.files[name]:
        raise ModelError(
            "{path} is not the file that the manifest describes: its sha256 differs. Copy the model folder again.",
            path=path,
        )
    return path


@contextmanager
def changing(folder: Path, expected: Manifest | None = None) -> Iterator[None]:
    """Hold the folder for a change, and remove afterwards what its manifests do not name.

    Args:
        folder: Created if it does not exist, and then removed again if it stays empty.
        expected: The manifest that the change starts from.

    Raises:
        ModelError: If the folder's manifest is not the expected one.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, lambda: _warn_of_waiting(folder)):
            earlier = _named_files(folder)
            if expected is not None and read_manifest(folder) != expected:
                raise ModelError(
                    "{folder} was changed by another process since it was loaded, so nothing was written. "
                    "Load it and make the change again.",
                    folder=folder,
                )
            try:
                yield
            finally:
                _remove_unnamed(folder, earlier or set())
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def keep_former(folder: Path) -> None:
    """Keep the present manifest, and with it the files that it names, as the former version; for `changing`."""
    write_whole(folder / FORMER, (folder / FILE).read_bytes())


def undo(folder: Path | str) -> Manifest:
    """Make the version of a model before its latest update the present one; a second `undo` reverts the first.

    Returns:
        The manifest of the version that is present now.

    Raises:
        ModelError: If the folder is not a model, has no former version, or that version is damaged.
    """
    folder = Path(folder)
    read_manifest(folder)  # else `changing` would create it
    with changing(folder):
        if not (folder / FORMER).is_file():
            raise ModelError(
                "{folder} has no former version. Only the latest update of a model can be undone.",
                folder=folder,
            )
        former = read_manifest(folder, FORMER)
        for name in former.files:
            checked_file(folder, former, name)
        present = (folder / FILE).read_bytes()
        write_whole(folder / FILE, (folder / FORMER).read_bytes())
        write_whole(folder / FORMER, present)
    return former


def _remove_unnamed(folder: Path, earlier: set[Path]) -> None:
    """Remove files of former manifests and of writers that were killed; nothing if a manifest cannot be read.

    `earlier` are the files that the manifests named before the change; those of early versions have plain names.
    """
    keep = _named_files(folder)
    if keep is None:
        return
    for path in earlier - keep:
        path.unlink(missing_ok=True)
    remove_stored(folder, (WEIGHTS, GRAPH), keep)


def _named_files(folder: Path) -> set[Path] | None:
    """The files that the folder's manifests name; None if one of these cannot be read."""
    found: set[Path] = set()
    for name in (FILE, FORMER):
        if (folder / name).is_file():
            try:
                files = read_manifest(folder, name).files
            except ModelError:
                return None
            found |= {stored_path(folder, file, sha256) for file, sha256 in files.items()}
    return found


def _warn_of_waiting(folder: Path) -> None:
    warnings.warn(
        message(
            "Another process changes {folder}; waiting for it. If it has stopped, end it.",
            folder=folder,
        ),
        BlemishWarning,
        stacklevel=2,
    )
