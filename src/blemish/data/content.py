"""Hashes of image files: they find copies and give a data set its fingerprint."""

import hashlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

from blemish.data.images import content_fingerprint
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
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_shared_content(hashes: Mapping[Path, str], test: Iterable[Sample]) -> list[tuple[Path, Path]]:
    """Pairs of a training and a test file with the same bytes.

    Only test files as long as a training file are read. A re-encoded image is not found.

    Args:
        hashes: Hash of each training file, from `content_hashes`.
        test: Test images.
    """
    by_length: dict[int, list[Path]] = {}
    for path in hashes:
        by_length.setdefault(path.stat().st_size, []).append(path)
    candidates = {sample.path: by_length.get(sample.path.stat().st_size, []) for sample in test}
    unknown = [path for path, alike in candidates.items() if alike and path not in hashes]
    known = {**hashes, **content_hashes(unknown)}
    return [
        (file, path) for path, alike in candidates.items() for file in alike if known[file] == known[path]
    ]
