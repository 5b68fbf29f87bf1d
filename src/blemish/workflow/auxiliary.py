"""Images of other things than the product: which are read, and what a resumed training must have in common."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.data.checks import check_images
from blemish.data.content import content_hashes, without_copies
from blemish.errors import BlemishWarning, DataError
from blemish.messages import message
from blemish.types import Progress, Sample

if TYPE_CHECKING:
    from blemish.methods.base import Method


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """Auxiliary images, each content once."""

    products: tuple[tuple[Path, ...], ...]
    """Those of each product; images without a category are one product."""
    identity: tuple[str, ...]
    """SHA-256 over the contents of each product's images, in their order."""


def auxiliary_products(
    method: "Method",
    images: Sequence[Sample],
    learned: Mapping[Path, str],
    *,
    skip_unreadable: bool,
    progress: Progress,
) -> Auxiliary:
    """The auxiliary images by product; warns of copies, and of those that are also images of the product.

    Args:
        method: The method that gets them.
        images: As given.
        learned: Hash of each image of the product.
        skip_unreadable: Whether to leave out, with a warning, images that cannot be decoded.
        progress: Called with the number of images checked.

    Raises:
        DataError: If an image cannot be read, or none of them can.
        MethodError: If the method does not use auxiliary images.
    """
    if images:
        method.require_auxiliary_use()  # before all are read
    readable = _readable(images, progress) if skip_unreadable and images else images
    hashes = content_hashes([sample.path for sample in readable], progress)
    _warn_of_learned(hashes, learned)
    products: dict[str, list[Path]] = {}
    for sample in without_copies(readable, hashes):
        products.setdefault(sample.category, []).append(sample.path)
    return Auxiliary(
        tuple(map(tuple, products.values())),
        tuple(ordered_fingerprint(product, hashes) for product in products.values()),
    )


def ordered_fingerprint(paths: Sequence[Path], hashes: Mapping[Path, str]) -> str:
    """SHA-256 in hex over the contents of images, in this order."""
    return hashlib.sha256("".join(hashes[path] for path in paths).encode()).hexdigest()


def _readable(images: Sequence[Sample], progress: Progress) -> list[Sample]:
    bad = check_images(dict.fromkeys(sample.path for sample in images), progress)
    if not bad:
        return list(images)
    unreadable = {image.path for image in bad}
    readable = [sample for sample in images if sample.path not in unreadable]
    if not readable:
        raise DataError(
            "None of the {count} auxiliary images can be read: {reason}", count=len(bad), reason=bad[0].reason
        )
    warnings.warn(
        message(
            "{count} auxiliary images cannot be read and are left out; the first: {reason}",
            count=len(bad),
            reason=bad[0].reason,
        ),
        BlemishWarning,
        stacklevel=4,
    )
    return readable


def _warn_of_learned(hashes: Mapping[Path, str], learned: Mapping[Path, str]) -> None:
    original = {digest: path for path, digest in learned.items()}
    shared = [(path, original[digest]) for path, digest in hashes.items() if digest in original]
    if shared:
        copy, first = shared[0]
        warnings.warn(
            message(
                "{count} auxiliary images are also images of the product; the first is {copy}, the same as {first}. "
                "Give images of other things only.",
                count=len(shared),
                copy=copy,
                first=first,
            ),
            BlemishWarning,
            stacklevel=4,
        )
