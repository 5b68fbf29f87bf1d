import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.metrics import bounds
from blemish.metrics.overlap import area_under, aupro
from blemish.metrics.ranking import auroc, average_precision, f1_max
from blemish.metrics.table import PixelTally, merge, to_keys, to_scores
from blemish.types import Map, Mask

finite = arrays.arrays(
    np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@settings(deadline=None, max_examples=60)
@given(finite)
def test_keys_keep_order_and_value(scores: Map) -> None:
    keys = to_keys(scores)
    assert ((keys[:, None] < keys) == (scores[:, None] < scores)).all()
    assert (to_scores(keys, 0) == scores).all()


@settings(deadline=None, max_examples=60)
@given(finite, st.integers(1, 20))
def test_a_binned_score_is_the_lower_edge_of_its_bin(scores: Map, dropped: int) -> None:
    keys = to_keys(scores) >> np.uint32(dropped)
    edges = to_scores(keys, dropped)
    assert np.isfinite(edges).all()
    assert (edges <= scores).all()
    assert (to_keys(edges.astype(np.float32)) >> np.uint32(dropped) == keys).all()
    positive = scores >= np.finfo(np.float32).tiny
    assert (scores[positive] - edges[positive] <= 2.0 ** (dropped - 23) * edges[positive]).all()


def some_images(seed: int, images: int, size: int = 48) -> tuple[list[Mask], list[Map]]:
    """Overlapping score distributions, both signs, with an exact zero and some ties."""
    random = np.random.default_rng(seed)
    masks, maps = [], []
    for _ in range(images):
        mask = np.zeros((size, size + 3), dtype=np.bool_)
        for y, x in random.integers(0, size - 6, (3, 2)):
            mask[y : y + 5, x : x + random.integers(1, 6)] = True
        anomaly_map = random.normal(0, 3, mask.shape).astype(np.float32) + 2 * mask
        anomaly_map[0, :5] = 0
        anomaly_map[1, :9] = 2.5
        masks.append(mask)
        maps.append(anomaly_map.astype(np.float32))
    return masks, maps


def tally_of(masks: list[Mask], maps: list[Map], max_rows: int) -> PixelTally:
    tally = PixelTally(max_rows)
    for index, (mask, anomaly_map) in enumerate(zip(masks, maps, strict=True)):
        tally.add(f"type{index % 3}", anomaly_map, mask)
    return tally


GROUPS = ["type0", "type1", "type2"]


@pytest.mark.parametrize("max_rows", [20_000, 2**23], ids=["merged often", "merged once"])
def test_what_fits_is_exact(max_rows: int) -> None:
    random = np.random.default_rng(1)
    masks, maps = some_images(1, 8)
    maps = [np.round(m + random.normal(size=m.shape), 3).astype(np.float32) for m in maps]
    tally = tally_of(masks, maps, max_rows)
    table = tally.table(GROUPS)
    counts = table.counts(tally.dropped_bits)
    labels = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    assert tally.dropped_bits == 0
    assert counts.auroc() == pytest.approx(auroc(labels, scores), abs=1e-12)
    assert counts.average_precision() == pytest.approx(average_precision(labels, scores), abs=1e-12)
    assert counts.f1_max() == pytest.approx(f1_max(labels, scores), abs=1e-12)
    assert area_under(table.overlap_curve(), 0.3) == pytest.approx(aupro(masks, maps), abs=1e-9)


@pytest.mark.parametrize("max_rows", [400, 1200, 6000])
@pytest.mark.parametrize("seed", range(4))
def test_what_does_not_fit_is_within_the_stated_error(max_rows: int, seed: int) -> None:
    masks, maps = some_images(seed, 9)
    tally = tally_of(masks, maps, max_rows)
    table = tally.table(GROUPS)
    counts, pro = table.counts(tally.dropped_bits), table.overlap_curve()
    labels = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    assert tally.dropped_bits > 0
    for binned, exact, bound in (
        (counts.auroc(), auroc(labels, scores), bounds.auroc_error(counts)),
        (
            counts.average_precision(),
            average_precision(labels, scores),
            bounds.average_precision_error(counts),
        ),
        (counts.f1_max().value, f1_max(labels, scores).value, bounds.f1_max_error(counts)),
        (area_under(pro, 0.3), aupro(masks, maps), bounds.aupro_error(pro, 0.3)),
    ):
        assert abs(binned - exact) <= bound + 1e-12
        assert bound < {400: 0.4, 1200: 0.08, 6000: 0.02}[max_rows]


pixels_in_bins = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=14)


@settings(deadline=None, max_examples=200)
@given(pixels_in_bins)
def test_no_order_within_the_bins_breaks_the_bounds(pairs: list[tuple[bool, int]]) -> None:
    """Few pixels in 4 bins, in any order within each: the bounds must hold where they are tightest."""
    mask = np.array([[defective for defective, _ in pairs]])
    assume(mask.any() and not mask.all())
    bins = np.array([[place for _, place in pairs]], dtype=np.uint32)
    within = np.arange(len(pairs), dtype=np.uint32)
    keys = np.uint32(0xC0000000) + (bins << np.uint32(4)) + within
    fine = to_scores(keys, 0).astype(np.float32)
    coarse = to_scores(keys >> np.uint32(4), 4).astype(np.float32)
    tally = PixelTally()
    tally.add("", coarse, mask)
    table = tally.table([""])
    counts, pro = table.counts(0), table.overlap_curve()
    for binned, exact, bound in (
        (counts.auroc(), auroc(mask[0], fine[0]), bounds.auroc_error(counts)),
        (
            counts.average_precision(),
            average_precision(mask[0], fine[0]),
            bounds.average_precision_error(counts),
        ),
        (counts.f1_max().value, f1_max(mask[0], fine[0]).value, bounds.f1_max_error(counts)),
        (area_under(pro, 0.3), aupro([mask], [fine]), bounds.aupro_error(pro, 0.3)),
    ):
        assert abs(binned - exact) <= bound + 1e-12


def test_memory_is_bounded_however_many_maps_come() -> None:
    """28 bytes per row, and one batch of waiting pixels of at most max_rows plus one map."""
    random = np.random.default_rng(0)
    max_rows, size = 2**14, 256
    tally, largest = PixelTally(max_rows), 0
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[10:90, 20:90] = True
    for index in range(12):
        tally.add(f"type{index % 4}", random.normal(size=(size, size)).astype(np.float32), mask)
        largest = max(largest, tally.nbytes)
    assert largest <= 28 * max_rows + 12 * (max_rows + size * size)
    table = tally.table(f"type{index}" for index in range(4))
    assert len(table.keys) <= max_rows
    assert table.negatives.sum() == 12 * (~mask).sum()
    assert table.positives.sum() == 12 * mask.sum()
    assert table.overlap.sum() == pytest.approx(12)


def test_merging_nothing_is_empty() -> None:
    assert len(merge([]).keys) == 0
    assert len(PixelTally().table(["unseen"]).keys) == 0
