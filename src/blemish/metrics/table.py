"""Counts pixel scores per distinct score: exact while they fit in memory, binned otherwise.

A float32 score becomes a 32-bit key of the same order: the bits of positive floats rise with the value,
those of negative floats fall. Counting by key is exact. Dropping the lowest bits of all keys bins the
scores in steps of a constant relative width, on any scale, without knowing the range in advance; after
dropping s bits, bins are at most 2^(s−23) of the score wide. `metrics/bounds.py` bounds the error that
this causes in a metric.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.overlap import overlap_curve, region_shares
from blemish.metrics.ranking import Counts, Curve, Floats, Integers
from blemish.types import Map, Mask

Keys = NDArray[np.uint32]

_SIGN = np.uint32(0x80000000)
_LOWEST_FINITE = np.uint32(0x00800000)


def to_keys(scores: Map) -> Keys:
    """Unsigned integers of the same order and shape as the finite float32 scores."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0: equal scores, equal keys
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | _SIGN
    return bits


def to_scores(keys: Keys, dropped_bits: int) -> Floats:
    """The lowest score of each key."""
    whole = np.maximum(keys << np.uint32(dropped_bits), _LOWEST_FINITE)
    bits: Keys = np.where(whole & _SIGN, whole ^ _SIGN, ~whole)
    return bits.view(np.float32).astype(np.float64)


class ScoreTable(NamedTuple):
    """Counts per distinct key, keys rising."""

    keys: Keys
    negatives: Integers
    """Number of normal pixels."""
    positives: Integers
    """Number of defective pixels."""
    overlap: Floats
    """Sum over all regions of the region's share of pixels with this key; AUPRO needs no more, since it averages
    over regions."""

    def coarser(self) -> "ScoreTable":
        """The same counts with the lowest bit of each key dropped."""
        keys = self.keys >> np.uint32(1)
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        columns = (np.add.reduceat(column, starts) for column in self[1:])
        return ScoreTable(keys[starts], *columns)

    def counts(self, dropped_bits: int) -> Counts:
        """Numbers of negatives and positives per score, highest score first."""
        return Counts(to_scores(self.keys[::-1], dropped_bits), self.negatives[::-1], self.positives[::-1])

    def overlap_curve(self) -> Curve:
        """The region-overlap curve of these pixels."""
        return overlap_curve(self.negatives[::-1], self.overlap[::-1])


def table_of_normal(keys: Keys) -> ScoreTable:
    """The table of normal pixels with these keys, in any order."""
    distinct, counts = np.unique(keys, return_counts=True)
    return ScoreTable(distinct, counts, np.zeros_like(counts), np.zeros(len(counts)))


def table_of_defective(keys: Keys, shares: Floats) -> ScoreTable:
    """The table of defective pixels with these keys; `shares` is one over the size of each pixel's region."""
    distinct, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    overlap = np.asarray(np.bincount(inverse, shares, minlength=len(distinct)), np.float64)
    return ScoreTable(distinct, np.zeros_like(counts), counts, overlap)


def merge(tables: Sequence[ScoreTable]) -> ScoreTable:
    """The table of all pixels of the given tables, whose keys must have the same number of dropped bits."""
    tables = [table for table in tables if len(table.keys)]
    if len(tables) == 1:
        return tables[0]
    keys = reduce(_union, (table.keys for table in tables), np.empty(0, np.uint32))
    merged = ScoreTable(
        keys, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64), np.zeros(len(keys), np.float64)
    )
    for table in tables:
        place = np.searchsorted(keys, table.keys)
        merged.negatives[place] += table.negatives
        merged.positives[place] += table.positives
        merged.overlap[place] += table.overlap
    return merged


def _union(keys: Keys, others: Keys) -> Keys:
    """The union of two sorted lists of keys, sorted; much faster than sorting them together."""
    if not len(keys):
        return others
    place = np.searchsorted(keys, others)
    is_new = keys[np.minimum(place, len(keys) - 1)] != others
    return np.insert(keys, place[is_new], others[is_new])


class PixelTally:
    """Counts pixel scores of many images in bounded memory, one group per defect type, None for normal.

    New pixels are buffered until there are twice `max_rows` of them, then all are merged into the tables at
    once. While all tables together have at most `max_rows` distinct scores, counts are exact; beyond that bits
    are dropped until a quarter of the rows is left, since merging takes time in proportion to the tables.

    Args:
        max_rows: Maximum number of rows, at 28 bytes each, plus twice as many buffered pixels at 4 to 12 bytes.
    """

    def __init__(self, max_rows: int = 2**23) -> None:
        self.max_rows = max_rows
        self.dropped_bits = 0
        self._tables: dict[str | None, ScoreTable] = {}
        self._waiting: dict[str | None, tuple[list[Keys], list[Keys], list[Floats]]] = {}
        self._waiting_pixels = 0

    def add(self, group: str | None, anomaly_map: Map, mask: Mask | None) -> None:
        """Count the pixels of one finite map; no mask means that all are normal."""
        keys = to_keys(anomaly_map)
        normal, defective, shares = self._waiting.setdefault(group, ([], [], []))
        if mask is None or not mask.any():
            normal.append(keys.ravel())
        else:
            normal.append(keys[~mask])
            defective.append(keys[mask])
            shares.append(region_shares(mask))
        self._waiting_pixels += keys.size
        if self._waiting_pixels >= 2 * self.max_rows:
            self._settle()

    def table(self, groups: Iterable[str | None]) -> ScoreTable:
        """The table of all pixels of these groups; a group without images is empty."""
        self._settle()
        return merge([self._tables[group] for group in groups if group in self._tables])

    @property
    def nbytes(self) -> int:
        """Memory of tables and buffered pixels in bytes."""
        waiting = (array for lists in self._waiting.values() for arrays in lists for array in arrays)
        columns = (column for table in self._tables.values() for column in table)
        return sum(array.nbytes for array in waiting) + sum(column.nbytes for column in columns)

    def _settle(self) -> None:
        """Merge the buffered pixels into the tables, then drop bits until the tables fit."""
        for group in list(self._waiting):
            normal, defective, shares = self._waiting.pop(group)
            bits = np.uint32(self.dropped_bits)
            parts = [self._tables.pop(group)] if group in self._tables else []
            parts.append(table_of_normal(np.concatenate(normal) >> bits))
            if defective:
                parts.append(table_of_defective(np.concatenate(defective) >> bits, np.concatenate(shares)))
            self._tables[group] = merge(parts)
        self._waiting_pixels = 0
        if self._rows() > self.max_rows:
            while self._rows() > self.max_rows // 4:
                self.dropped_bits += 1
                self._tables = {group: table.coarser() for group, table in self._tables.items()}

    def _rows(self) -> int:
        return sum(len(table.keys) for table in self._tables.values())
