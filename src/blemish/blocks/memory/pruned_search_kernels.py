"""The compiled loops of `PrunedSearch`: each query skips other clusters, which no tensor operation can express.

Indices are `uintp`, so that the compiled code does not test for negative ones, which count from the end.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.blocks.compiled import compiled, inlined

LIFTED = 96
"""Coordinates of a lifted point."""
LEADING = 32
"""Lifted coordinates that are compared for a whole cluster at once."""
PATIENCE = 16
"""A query gives up when it has cost 1/16 of the multiplications of comparing everything: a matrix product, which
does about 16 times as many of them in a second, is then faster."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Index(NamedTuple):
    """Points (M, D) in K clusters: buffers of `PrunedSearch`, which states their shapes, and the points themselves."""

    starts: Integers
    radii: Floats
    leading: Floats
    trailing: Floats  # flattened
    points: Floats  # flattened


@compiled
def search_queries(
    any_will_do: bool,
    queries: Floats,
    lifted: Floats,
    slack: Floats,
    to_clusters: Floats,
    order: Integers,
    index: Index,
    squared: Floats,
    indices: Integers,
    gave_up: NDArray[np.bool_],
    begin: int,
    end: int,
) -> None:
    """Search for the queries order[begin], …, order[end − 1].

    Args:
        any_will_do: As for `PrunedSearch.search`.
        queries: (Q, D).
        lifted: (Q, LIFTED): the queries, lifted.
        slack: (Q,): largest rounding error of a bound.
        to_clusters: (Q, K): lower bounds of the distances to the clusters' centres.
        order: (Q,): order in which queries are searched.
        index: The points.
        squared: (Q, count), filled with the square of the reach; receives squared distances, ascending.
        indices: (Q, count), filled with M; receives the points' indices.
        gave_up: (Q,); receives whether a query gave up.
        begin: First place of `order`.
        end: Place of `order` behind the last one.
    """
    missing = index.starts[-1]
    width = np.uintp(queries.shape[1])
    bounds = np.empty(np.diff(index.starts).max(), np.float32)
    hit = missing  # where any point will do, the one found for the query before is often near enough
    for position in range(begin, end):
        q = np.uintp(order[position])
        if any_will_do and hit < missing:
            distance = _squared_distance(queries[q], np.uintp(0), index.points, np.uintp(hit) * width, width)
            if _insert(squared[q], indices[q], distance, hit):
                continue
        gave_up[q] = _search(
            any_will_do,
            queries[q],
            lifted[q],
            slack[q],
            to_clusters[q],
            index,
            bounds,
            squared[q],
            indices[q],
        )
        if indices[q, 0] < missing:
            hit = indices[q, 0]


@inlined
def _search(
    any_will_do: bool,
    query: Floats,
    lifted: Floats,
    slack: Any,
    to_clusters: Floats,
    index: Index,
    bounds: Floats,
    squared: Floats,
    indices: Integers,
) -> bool:
    """Search for one query; returns whether it gave up. `bounds` is working memory for the largest cluster."""
    starts, radii, leading, trailing, points = index
    missing = starts[-1]
    patience = np.uintp(len(points)) // np.uintp(PATIENCE)
    width = np.uintp(len(query))
    work, seed = np.uintp(0), np.uintp(missing)
    nearest = np.argmin(to_clusters)
    if to_clusters[nearest] - radii[nearest] <= np.sqrt(squared[-1]) + slack:
        # The nearest cluster is first searched for one good neighbour to start from.
        start = np.uintp(starts[nearest])
        rows = np.uintp(starts[nearest + 1]) - start
        _leading_distances(lifted, leading, start, rows, bounds)
        work += rows * np.uintp(LEADING // 4)
        seed = start + np.uintp(np.argmin(bounds[:rows]))
        distance = _squared_distance(query, np.uintp(0), points, seed * width, width)
        if _insert(squared, indices, distance, seed) and any_will_do:
            return False
    for cluster in range(len(radii)):
        if to_clusters[cluster] - radii[cluster] > np.sqrt(squared[-1]) + slack:
            continue
        start = np.uintp(starts[cluster])
        rows = np.uintp(starts[cluster + 1]) - start
        _leading_distances(lifted, leading, start, rows, bounds)
        work += rows * np.uintp(LEADING // 4)
        work += _compare_cluster(
            any_will_do, query, lifted, slack, trailing, points, start, rows, seed, bounds, squared, indices
        )
        if any_will_do and indices[0] < missing:
            return False
        if work > patience:
            return True
    return False


@inlined
def _compare_cluster(
    any_will_do: bool,
    query: Floats,
    lifted: Floats,
    slack: Any,
    trailing: Floats,
    points: Floats,
    start: Any,
    rows: Any,
    seed: Any,
    bounds: Floats,
    squared: Floats,
    indices: Integers,
) -> Any:
    """Compare the rows of a cluster that no bound rules out, except `seed`; returns the multiplications done."""
    width, rest = np.uintp(len(query)), np.uintp(LIFTED - LEADING)
    work = np.uintp(0)
    limit = _squared_limit(squared, slack)
    for j in range(rows):
        row = start + j
        if bounds[j] > limit or row == seed:
            continue
        work += rest
        bound = bounds[j] + _squared_distance(lifted, np.uintp(LEADING), trailing, row * rest, rest)
        if bound > limit:
            continue
        work += width
        distance = _squared_distance(query, np.uintp(0), points, row * width, width)
        if _insert(squared, indices, distance, row):
            limit = _squared_limit(squared, slack)
            if any_will_do:
                break
    return work


@compiled
def _insert(squared: Floats, indices: Integers, distance: Any, row: Any) -> bool:
    """Put a point into the sorted lists of a query if it is nearer than the last one there, which falls out."""
    k = len(squared) - 1
    if not distance < squared[k]:
        return False
    while k > 0 and distance < squared[k - 1]:
        squared[k], indices[k] = squared[k - 1], indices[k - 1]
        k -= 1
    squared[k], indices[k] = distance, row
    return True


@compiled
def _squared_limit(squared: Floats, slack: Any) -> Any:
    """Squared lower bound over which a point is ruled out."""
    limit = np.sqrt(squared[-1]) + slack
    return limit * limit * np.float32(1.00001)


@compiled
def _leading_distances(lifted: Floats, leading: Floats, start: Any, rows: Any, out: Floats) -> None:
    """Squared distances in the leading coordinates to all rows of one cluster."""
    for j in range(rows):
        out[j] = np.float32(0)
    for i in range(np.uintp(LEADING)):
        value = lifted[i]
        base = start * np.uintp(LEADING) + i * rows
        for j in range(rows):
            gap = value - leading[base + j]
            out[j] += gap * gap


@compiled
def _squared_distance(a: Floats, i: Any, b: Floats, j: Any, width: Any) -> Any:
    """Between a[i : i + width] and b[j : j + width]."""
    total = np.float32(0)
    for k in range(width):
        gap = a[i + k] - b[j + k]
        total += gap * gap
    return total
