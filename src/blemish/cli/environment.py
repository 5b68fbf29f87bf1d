"""What surrounds the installation: OpenCV's distributions, folders that must be writable, a container's limits."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import packages_distributions, version
from pathlib import Path

from blemish.errors import MissingExtraError
from blemish.messages import listed, message

CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60
"""Version 1 of control groups writes a larger number of bytes for no limit."""
SMALLEST_TEMPORARY = 2 * 2**30
"""Free bytes in the temporary folder below which large data sets may not fit."""


def facts() -> Iterator[tuple[str, str]]:
    """Name and value of each fact."""
    installed = [f"{name} {version(name)}" for name in opencv_distributions()]
    absent = message("absent" if opencv_problem() else "not installed by pip")
    yield message("opencv"), ", ".join(installed) or absent
    threads = ", ".join(f"{name} {count}" for name, count in thread_counts().items())
    yield message("threads"), threads or message("unknown")
    limits = [
        message("{count:g} CPUs", count=cpus) if (cpus := cpu_quota()) is not None else "",
        memory_size(memory) if (memory := memory_limit()) is not None else "",
    ]
    yield message("container limits"), ", ".join(filter(None, limits)) or message("none")
    yield message("temporary folder"), _free_space(temporary_folder())
    yield message("output encoding"), getattr(sys.stdout, "encoding", None) or message("unknown")


def memory_size(size: int) -> str:
    """Bytes of memory in words."""
    return message("{size:.1f} GiB of memory", size=size / 2**30)


def _free_space(folder: Path | None) -> str:
    if folder is None:
        return message("none")
    free = shutil.disk_usage(folder).free
    return message("{folder}, {free:.1f} GiB free", folder=folder, free=free / 2**30)


def opencv_distributions() -> list[str]:
    """The installed distributions that provide the module cv2."""
    return sorted(set(packages_distributions().get("cv2", [])))


def thread_counts() -> dict[str, int]:
    """Package → number of threads that it computes with."""
    counts = {}
    with suppress(ImportError, MissingExtraError):
        from blemish.opencv import cv2

        counts["OpenCV"] = cv2.getNumThreads()
    with suppress(ImportError):
        from blemish.runtimes.torch import thread_count

        counts["torch"] = thread_count()
    return counts


def cpu_quota() -> float | None:
    """Number of CPUs that the container may use; None without a limit."""
    quota, period = _limits("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us") or (-1, 1)
    return quota / period if quota > 0 else None


def memory_limit() -> int | None:
    """Bytes of memory that the container may use; None without a limit."""
    (limit,) = _limits("memory.max", "memory/memory.limit_in_bytes") or (NO_LIMIT,)
    return limit if limit < NO_LIMIT else None


def _limits(unified: str, *former: str) -> list[int] | None:
    """The numbers in a file of control groups of version 2, or in the files of version 1; None without a limit."""
    for names in ((unified,), former):
        with suppress(OSError, ValueError):
            return [int(text) for name in names for text in (CGROUP / name).read_text("ascii").split()]
    return None


def temporary_folder() -> Path | None:
    """The folder of temporary files; None if none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
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
        yield message(
            "{distributions} are installed and overwrite each other. Uninstall all of them, then "
            "install one: pip uninstall {again}, pip install {keep}",
            distributions=listed(distributions),
            again=" ".join(distributions),
            keep=keep,
        )
    quota, threads = cpu_quota(), thread_counts().get("torch", 1)
    if quota is not None and threads > max(1, quota):
        yield message(
            "The container may use {quota:g} CPUs, but torch computes with {threads} threads, which wait for each "
            "other. Set OMP_NUM_THREADS={wanted}.",
            quota=quota,
            threads=threads,
            wanted=max(1, int(quota)),
        )
    folder = temporary_folder()
    if folder is None:
        yield message("There is no folder for temporary files. Set TMPDIR to a folder that can be written.")
    elif (free := shutil.disk_usage(folder).free) < SMALLEST_TEMPORARY:
        yield message(
            "{folder} has {free:.1f} GiB free, too little for the patches of a large data set. "
            "Set TMPDIR to a folder on a larger disk.",
            folder=folder,
            free=free / 2**30,
        )
    yield from _cache_problems()


def _cache_problems() -> Iterator[str]:
    try:
        from blemish.blocks.compiled import is_cached
        from blemish.features.download import cache_folder
    except ImportError:
        return  # without the extra `train`, nothing is compiled and no weights are downloaded
    if not is_cached():
        yield message(
            "Neither the installation nor the home folder can be written, so the compiled loops are not kept and "
            "every start compiles them again. Set NUMBA_CACHE_DIR to a folder that can be written."
        )
    folder = cache_folder()
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        yield message(
            "{folder} cannot be written, so no weights can be downloaded. Put weight files into a folder and set "
            "BLEMISH_WEIGHTS to it.",
            folder=folder,
        )
