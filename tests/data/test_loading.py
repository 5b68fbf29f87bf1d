"""Checks before training, and images that are loaded in batches."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.checks import check_images
from blemish.data.content import content_hashes, find_shared_content
from blemish.data.dataset import open_dataset
from blemish.data.images import image_size, read_image, read_mask
from blemish.data.loading import BYTES_AHEAD, Inputs, decoded_bytes, in_batches, prefetch, stacked
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError
from blemish.types import Sample
from image_examples import make_images

SMALL = Preprocess(size=(8, 6))


def test_all_unreadable_files_are_listed(tmp_path: Path) -> None:
    paths = make_images(tmp_path, 5)
    paths[1].write_bytes(b"")
    paths[3].write_text("text")
    seen: list[tuple[str, int, int | None]] = []
    bad = check_images([*paths, tmp_path / "gone.png"], lambda *args: seen.append(args))
    assert [item.path for item in bad] == [paths[1], paths[3], tmp_path / "gone.png"]
    for item, words in zip(bad, ("is empty", "is not a PNG", "does not exist"), strict=True):
        assert str(item.path) in item.reason
        assert words in item.reason
    assert seen == [("checking images", done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_batches_keep_order_and_can_be_repeated(tmp_path: Path, batch_size: int) -> None:
    paths = make_images(tmp_path, 7)
    expected = np.stack([SMALL(read_image(path)) for path in paths])
    inputs = Inputs([Sample(path, 0, "train") for path in paths], SMALL)
    for _ in range(2):
        found = list(stacked(inputs, batch_size))
        assert {len(batch) for batch in found[:-1]} <= {batch_size}
        assert found[0].dtype == np.float32
        np.testing.assert_array_equal(np.concatenate(found), expected)


def test_inputs_are_images_by_number(tmp_path: Path) -> None:
    paths = make_images(tmp_path, 3)
    inputs = Inputs(paths, SMALL)
    assert len(inputs) == 3
    np.testing.assert_array_equal(inputs[2], SMALL(read_image(paths[2])))


def test_no_images_are_no_batches() -> None:
    assert list(stacked(Inputs([], SMALL), 4)) == []


def test_an_unreadable_image_stops_where_its_batch_would_come(tmp_path: Path) -> None:
    paths = make_images(tmp_path, 9)
    paths[4].write_bytes(b"")
    batches = stacked(Inputs(paths, SMALL), 2)
    assert [len(next(batches)), len(next(batches))] == [2, 2]
    with pytest.raises(DataError, match=r"4\.png is empty"):
        next(batches)


def test_results_come_in_order_though_later_ones_are_ready_first() -> None:
    last_done = threading.Event()

    def load(number: int) -> int:
        if number == 0:
            assert last_done.wait(10)
        if number == 1:
            last_done.set()
        return number * number

    assert list(prefetch(range(30), load, ahead=3)) == [number * number for number in range(30)]


def test_working_ahead_is_bounded_and_stops() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    threads = threading.active_count()
    results = prefetch(items(), lambda number: number, ahead=5)
    assert next(results) == 0
    assert len(taken) == 6
    assert [next(results) for _ in range(10)] == list(range(1, 11))
    assert len(taken) == 16
    del results
    gc.collect()
    assert threading.active_count() == threads


def test_large_results_are_computed_one_by_one_and_small_ones_ahead() -> None:
    loaded: list[int] = []

    def load(size: int) -> int:
        loaded.append(size)
        return size

    sizes = [BYTES_AHEAD, BYTES_AHEAD, 1, 2, 3, BYTES_AHEAD, 4]
    results = prefetch(sizes, load, size_of=lambda size: size)
    found, counts = [], []
    for result in results:
        found.append(result)
        counts.append(len(loaded))
    assert found == sizes
    # Each result beside the ones that wait: the second large one waits for the first to be taken, and so on.
    assert counts[:2] == [1, 2]
    assert counts[-1] == len(sizes)


def test_batches_end_at_their_number_of_bytes() -> None:
    half = BYTES_AHEAD // 2
    sizes = [1, 1, 1, half, half, BYTES_AHEAD, 1, 1]
    assert list(in_batches(sizes, 3, lambda size: size)) == [
        [1, 1, 1],
        [half, half],
        [BYTES_AHEAD],
        [1, 1],
    ]


def test_the_memory_of_decoding_follows_from_the_header(tmp_path: Path) -> None:
    path = make_images(tmp_path, 1)[0]
    height, width = image_size(path)
    assert decoded_bytes(path) == decoded_bytes(str(path)) == decoded_bytes(Sample(path, 0, "train"))
    assert decoded_bytes(path) == 2 * read_image(path).nbytes == 6 * height * width
    path.write_bytes(b"")
    assert decoded_bytes(path) == decoded_bytes(np.zeros((2, 2, 3), np.uint8)) == 0


def test_leaving_the_batches_early_ends_their_threads(tmp_path: Path) -> None:
    threads = threading.active_count()
    for _ in stacked(Inputs(make_images(tmp_path, 3) * 50, SMALL), 4):
        break
    gc.collect()
    assert threading.active_count() == threads


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers()), st.integers(1, 9))
def test_in_batches_loses_nothing(items: list[int], size: int) -> None:
    batches = list(in_batches(iter(items), size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)


@pytest.mark.skipif("BLEMISH_DATA" not in os.environ, reason="BLEMISH_DATA is not set: no real images")
@pytest.mark.parametrize("name", ["mvtec_ad/bottle", "magnetic_tile"])
def test_real_images_and_masks_decode(name: str) -> None:
    data = open_dataset(Path(os.environ["BLEMISH_DATA"]) / name)
    assert check_images(sample.path for sample in data.test[::8]) == []
    for sample in data.test[::8]:
        size = image_size(sample.path)
        assert read_image(sample.path).shape == (*size, 3)
        if sample.mask_path:
            assert read_mask(sample.mask_path, size=size).shape == size
    batches = stacked(Inputs(data.test[:20], Preprocess(resize="fit")), 8)
    assert sum(len(batch) for batch in batches) == 20
    hashes = content_hashes(sample.path for sample in data.train)
    assert find_shared_content(hashes, data.test) == []
