"""Hashes of image files: they find copies and give a data set its fingerprint."""

import hashlib
import stat
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

from blemish.data.find import natural_order
from blemish.data.images import content_fingerprint
from blemish.errors import BlemishWarning
from blemish.messages import message
from blemish.types import Progress, Sample, no_progress

HASH_DIGITS = 16
"""Hex digits of each training image's hash that a model stores, enough to recognise it in a test set."""
SILENT_SECONDS = 2.0
"""Hashing that takes less time is not reported."""


def content_hashes(paths: Iterable[Path], progress: Progress = no_progress) -> dict[Path, str]:
    """SHA-256 of each file's bytes, in hex; each file is read once, in threads.

    Raises:
        DataError: A file cannot be read.
    """
    listed = list(dict.fromkeys(paths))
    hashes: dict[Path, str] = {}
    started = time.monotonic()
    with ThreadPoolExecutor(cpu_count()) as pool:
        for path, digest in zip(listed, pool.map(content_fingerprint, listed), strict=True):
            hashes[path] = digest
            if time.monotonic() - started > SILENT_SECONDS:
                progress("hashing images", len(hashes), len(listed))
    return hashes


def fingerprint(samples: Iterable[Sample], hashes: Mapping[Path, str]) -> str:
    """SHA-256 in hex over file names and contents, independent of the folder and of the order.

    Args:
        samples: Images to hash.
        hashes: Hash of each of their files, from `content_hashes`.
    """
    lines = sorted(f"{hashes[sample.path]} {sample.path.name}\n" for sample in samples)
    # A file name that is not UTF-8 holds surrogates, which `encode` refuses otherwise.
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def without_copies(samples: Sequence[Sample], hashes: Mapping[Path, str]) -> list[Sample]:
    """The samples with different contents, in the order given; of copies, the first in natural order.

    Copies on both sides of a split would make the held-out images look better than unknown ones.

    Args:
        samples: Images.
        hashes: Hash of each of their files, from `content_hashes`.

    Warns:
        BlemishWarning: There are copies; the text counts them.
    """
    order = sorted(range(len(samples)), key=lambda index: natural_order(samples[index].path))
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(hashes[samples[index].path], index)
    kept = sorted(first.values())
    copies = [samples[index].path for index in order if first[hashes[samples[index].path]] != index]
    if copies:
        copy, original = copies[0], samples[first[hashes[copies[0]]]].path
        same = (
            message("is listed twice")
            if copy == original
            else message("has the same bytes as {original}", original=original)
        )
        warnings.warn(
            message(
                "{count} of {total} images are copies of others and left out: the first, {copy}, "
                "{same}. Each image counts once.",
                count=len(copies),
                total=len(samples),
                copy=copy,
                same=same,
            ),
            BlemishWarning,
            stacklevel=4,
        )
    return [samples[index] for index in kept]


def find_shared_content(hashes: Mapping[Path, str], test: Iterable[Sample]) -> list[tuple[Path, Path]]:
    """Pairs of a training and a test file with the same bytes.

    Only test files as long as a training file are read. A re-encoded image is not found.

    Args:
        hashes: Hash of each training file, from `content_hashes`.
        test: Test images.
    """
    by_length: dict[int, list[Path]] = {}
    for path in hashes:
        by_length.setdefault(_length(path), []).append(path)
    candidates = {sample.path: by_length.get(_length(sample.path), []) for sample in test}
    unknown = [path for path, alike in candidates.items() if alike and path not in hashes]
    known = {**hashes, **content_hashes(unknown)}
    return [
        (file, path) for path, alike in candidates.items() for file in alike if known[file] == known[path]
    ]


def _length(path: Path) -> int:
    """Number of bytes; -1 for what cannot be read, which an evaluation will name."""
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
