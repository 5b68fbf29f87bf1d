"""The one loop that scores images: in order, in bounded memory, believing nothing that is not a number."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.data.images import read_image, write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, DataError, ModelError
from blemish.scoring import PIXELS_AT_ONCE, Decoded, Scored, Scorer, batch_size
from blemish.types import Image, Prediction

SIZE = Preprocess(size=(256, 128))  # four images in a batch


class Mean:
    """Scores an image by the mean of its input; bright ones get a map with one NaN."""

    name = "mean"
    device = "cpu"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        self.batches.append(len(images))
        maps = images.mean(1)
        maps[maps.mean((1, 2)) > 0.9, 0, 0] = np.nan
        return Prediction(images.mean((1, 2, 3)), maps)


def grey(value: int, size: tuple[int, int] = (20, 30)) -> Image:
    return np.full((*size, 3), value, np.uint8)


def expected_score(value: int) -> float:
    return value / 255


def test_what_is_scored_comes_in_order_with_what_could_not_be_read_in_its_place() -> None:
    runtime = Mean()
    values = [10, 20, -1, 30, 40, 50, -2, -3, 60]

    def read(value: int) -> Decoded | str:
        return Decoded(Path(f"{value}.png"), grey(value, (20 + value, 30))) if value > 0 else f"no {value}"

    found = list(Scorer(runtime, SIZE).stream(values, read))
    assert len(found) == len(values)
    for value, one in zip(values, found, strict=True):
        if isinstance(one, Scored):
            assert one.path == Path(f"{value}.png")
            assert one.image.shape == (20 + value, 30, 3)
            assert one.anomaly_map.shape == (20 + value, 30)
            assert one.score == pytest.approx(expected_score(value), abs=1e-5)
            assert 0 < one.seconds < 10
        else:
            assert one == f"no {value}"
    assert runtime.batches == [3, 2, 1]  # four items each, without those that are no images


def test_few_images_are_read_ahead() -> None:
    taken: list[int] = []

    def values() -> Iterator[int]:
        for value in range(1000):
            taken.append(value)
            yield value

    found = Scorer(Mean(), SIZE).stream(values(), lambda value: Decoded(None, grey(value % 100)))
    next(found)
    assert len(taken) <= 4 + 9 + 3  # a batch, decoded images, measured ones


def test_large_images_are_read_and_scored_one_by_one_with_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{value}.png" for value in range(9)]
    for value, path in enumerate(paths):
        write_image(path, grey(20 * value))
    reading: list[Path] = []

    def read(path: Path) -> Decoded:
        reading.append(path)
        return Decoded(path, read_image(path))

    expected = [one.score for one in Scorer(Mean(), SIZE).stream(paths, read)]
    reading.clear()
    monkeypatch.setattr("blemish.data.loading.BYTES_AHEAD", 20 * 30 * 6)
    runtime = Mean()
    for number, one in enumerate(Scorer(runtime, SIZE).stream(paths, read), 1):
        assert one.score == expected[number - 1]
        assert len(reading) == number
    assert runtime.batches == [1] * 9


def test_an_image_without_a_usable_score_does_not_end_the_others() -> None:
    def read(value: int) -> Decoded:
        return Decoded(Path(f"{value}.png"), grey(value))

    def fail(path: Path | None, error: BlemishError) -> tuple[Path | None, str]:
        return path, str(error).partition(" a score")[0]

    found = list(Scorer(Mean(), SIZE).stream([10, 250, 20], read, fail))
    assert found[1] == (Path("250.png"), "The model gave 250.png")
    assert [one.score for one in (found[0], found[2]) if isinstance(one, Scored)] == pytest.approx(
        [expected_score(10), expected_score(20)], abs=1e-5
    )


def test_what_reading_raises_is_raised_in_its_place() -> None:
    def read(value: int) -> Decoded:
        if value == 5:
            raise DataError("five is damaged")
        return Decoded(None, grey(value))

    found = Scorer(Mean(), SIZE).stream(range(9), read)
    assert [next(found).score for _ in range(4)] == pytest.approx(
        [expected_score(v) for v in range(4)], abs=1e-5
    )
    with pytest.raises(DataError, match="five is damaged"):
        next(found)


def test_nan_names_the_file_where_there_is_one() -> None:
    scorer = Scorer(Mean(), SIZE)
    images = [grey(10), grey(255), grey(20)]
    with pytest.raises(ModelError) as error:
        scorer.score(images, [Path("a.png"), Path("b.png"), Path("c.png")])
    assert str(error.value) == (
        "The model gave b.png a score or an anomaly map that is NaN or infinite, so there is no verdict. Inspect "
        "another image: if that fails too, fit the model again."
    )
    with pytest.raises(ModelError, match=r"^The model gave an image a score or an anomaly map that is NaN"):
        scorer.score(images)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 256), 2), ((512, 512), 1), ((1024, 1024), 1), ((32, 40), 102), ((1, 1), 131072)],
)
def test_batches_hold_about_as_many_pixels(size: tuple[int, int], expected: int) -> None:
    assert batch_size(Preprocess(size=size)) == expected
    assert expected * size[0] * size[1] <= max(PIXELS_AT_ONCE, size[0] * size[1])
