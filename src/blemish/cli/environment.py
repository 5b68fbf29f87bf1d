"""What surrounds the installation: OpenCV's distributions, folders that must be writable, a container's limits."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

from blemish.errors import MissingExtraError
from blemish.messages import message

CGROUP = Path("/sys/fs/cgroup")
SMALLEST_TEMPORARY = 2 * 2**30
"""Free bytes in the temporary folder below which large data sets may not fit."""


def facts() -> Iterator[tuple[str, str]]:
    """Name and value of each fact."""
    installed = [f"{name} {version(name)}" for name in opencv_distributions()]
    yield "opencv", ", ".join(installed) or "absent"
    limits = [
        f"{cpus:g} CPUs" if (cpus := cpu_quota()) is not None else "",
        f"{memory / 2**30:.1f} GiB of memory" if (memory := memory_limit()) is not None else "",
    ]
    yield "container limits", ", ".join(filter(None, limits)) or "none"
    folder = tempfile.gettempdir()
    yield "temporary folder", f"{folder}, {shutil.disk_usage(folder).free / 2**30:.1f} GiB free"
    yield "output encoding", getattr(sys.stdout, "encoding", None) or "unknown"


def opencv_distributions() -> list[str]:
    """The installed distributions that provide the module cv2."""
    return sorted(set(packages_distributions().get("cv2", [])))


def cpu_quota() -> float | None:
    """Number of CPUs that the container may use; None without a limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text("ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def memory_limit() -> int | None:
    """Bytes of memory that the container may use; None without a limit."""
    try:
        limit = (CGROUP / "memory.max").read_text("ascii").strip()
        return None if limit == "max" else int(limit)
    except (OSError, ValueError):
        return None


def opencv_problem() -> str | None:
    """Why OpenCV cannot be used, with the remedy; blemish does not work without it."""
    try:
        import blemish.opencv  # noqa: F401
    except MissingExtraError as error:
        return str(error)
    return None


def problems() -> Iterator[str]:
    """Problems with which blemish works, but not well."""
    distributions = opencv_distributions()
    if len(distributions) > 1:
        keep = distributions[0]
        yield (
            message(
                "{distributions} are installed and overwrite each other. Uninstall all of them, then "
                "install one: pip uninstall {again}, pip install {keep}",
                distributions=" and ".join(distributions),
                again=" ".join(distributions),
                keep=keep,
            )
        )
    quota = cpu_quota()
    if quota is not None and quota < (os.cpu_count() or 1) and "OMP_NUM_THREADS" not in os.environ:
        yield (
            message(
                "The container may use {quota:g} of {cpus} CPUs, but torch starts a thread for each CPU, and "
                "they wait for each other. Set OMP_NUM_THREADS={threads}.",
                quota=quota,
                cpus=os.cpu_count(),
                threads=max(1, int(quota)),
            )
        )
    if not _is_writable(Path(tempfile.gettempdir())):
        yield message(
            "{folder} cannot be written. Set TMPDIR to a folder that can.",
            folder=tempfile.gettempdir(),
        )
    elif (free := shutil.disk_usage(tempfile.gettempdir()).free) < SMALLEST_TEMPORARY:
        yield (
            message(
                "{folder} has {free:.1f} GiB free, too little for the patches of a large data set. "
                "Set TMPDIR to a folder on a larger disk.",
                folder=tempfile.gettempdir(),
                free=free / 2**30,
            )
        )
    yield from _cache_problems()


def _cache_problems() -> Iterator[str]:
    try:
        from blemish.blocks.compiled import is_cached
    except ImportError:
        return  # without the extra `train`, nothing is compiled
    if not is_cached():
        yield (
            message(
                "Neither the installation nor the home folder can be written, so the compiled loops are not kept and "
                "every start compiles them again. Set NUMBA_CACHE_DIR to a folder that can be written."
            )
        )


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
