"""The gallery keeps the worst mistakes and a bounded, unbiased sample of detections."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.inspection.heatmap import overlay
from blemish.reports.gallery import THUMBNAIL, GalleryPicker, ImageArrays
from blemish.types import Verdict

THRESHOLD = 1.0


def verdict(score: float) -> Verdict:
    return "NG" if score > THRESHOLD else "OK"


def small() -> ImageArrays:
    blank = np.zeros((6, 8), np.bool_)
    return ImageArrays(np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.float32), blank, blank)


def offer(picker: GalleryPicker, label: int, score: float, defect_type: str = "good") -> None:
    picker.offer(f"{defect_type}/{score}", defect_type, label, score, verdict(score), small)


scored = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 2)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(images=scored, capacity=st.integers(0, 4))
def test_keeps_exactly_the_worst_mistakes(images: list[tuple[int, float]], capacity: int) -> None:
    picker = GalleryPicker(misses=capacity, false_alarms=capacity, detections=0)
    for label, score in images:
        offer(picker, label, score, "crack" if label else "good")
    misses = sorted(score for label, score in images if label and score <= THRESHOLD)[:capacity]
    alarms = sorted((score for label, score in images if not label and score > THRESHOLD), reverse=True)
    items = picker.items()
    assert [item.score for item in items if item.is_miss] == misses
    assert [item.score for item in items if item.is_false_alarm] == alarms[:capacity]
    assert len(items) == len(misses) + len(alarms[:capacity])


def test_detections_are_an_even_sample_of_each_type() -> None:
    counts: Counter[float] = Counter()
    for seed in range(400):
        picker = GalleryPicker(detections=2, seed=seed)
        for score in range(2, 12):
            offer(picker, 1, float(score), "dent")
        items = picker.items()
        assert len(items) == 2
        assert len({item.score for item in items}) == 2
        counts.update(item.score for item in items)
    # Each of ten is drawn with probability 0.2: 80 of 400, standard deviation 8.
    assert all(48 < counts[float(score)] < 112 for score in range(2, 12))


def test_the_limit_takes_one_of_each_type_before_a_second() -> None:
    picker = GalleryPicker(detections=2, limit=5)
    offer(picker, 1, 0.5, "a")
    offer(picker, 0, 1.5)
    for defect_type in ("c", "a", "b"):
        offer(picker, 1, 3.0, defect_type)
        offer(picker, 1, 4.0, defect_type)
    items = picker.items()
    assert [(item.defect_type, item.verdict) for item in items] == [
        ("a", "OK"),
        ("good", "NG"),
        ("a", "NG"),
        ("b", "NG"),
        ("c", "NG"),
    ]


def test_arrays_are_loaded_only_when_kept_and_shrunk_at_once() -> None:
    asked: list[float] = []
    picker = GalleryPicker(misses=1, false_alarms=0, detections=0)

    def large(score: float) -> ImageArrays:
        asked.append(score)
        mask = np.zeros((500, 1000), np.bool_)
        mask[250] = True  # a scratch of one pixel must survive in the thumbnail
        image = np.full((500, 1000, 3), 20000, np.uint16)
        return ImageArrays(image, np.full((500, 1000), 1.2, np.float32), mask, mask)

    for score in (0.5, 0.9, 0.4, 0.45):
        picker.offer("x", "scratch", 1, score, "OK", lambda score=score: large(score))  # type: ignore[misc]
    picker.offer("good", "good", 0, 0.2, "OK", lambda: large(-1))
    assert asked == [0.5, 0.4]
    (item,) = picker.items()
    assert item.image.shape == (160, THUMBNAIL, 3)
    assert item.image.dtype == np.uint8
    assert (item.image == 20000 >> 8).all()
    assert item.mask is not None
    assert item.mask.shape == (160, THUMBNAIL)
    assert item.mask.any(1).sum() == 1
    relative = np.full((160, THUMBNAIL), 1.2, np.float32)
    np.testing.assert_array_equal(item.overlay, overlay(item.image, relative, defect_mask=item.defect_mask))
