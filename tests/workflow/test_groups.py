"""Groups of normal images, given and found."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.demo import render_part
from blemish.demo.runs import render_run
from blemish.errors import BlemishWarning, DataError
from blemish.types import Sample, no_progress
from blemish.workflow.groups import GroupBy, Groups, group_images
from blemish.workflow.near_copies import look_at

SIZE = (120, 160)


def grouped(paths: list[str] | list[Path], by: GroupBy) -> Groups:
    samples = [Sample(Path(path), 0, "train") for path in paths]
    return group_images(samples, by, Preprocess(size=SIZE), "cpu", no_progress)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("none", (0, 1, 2, 3)),
        ("folder", (0, 0, 1, 1)),
        (r"lot(\d)", (0, 1, 0, 1)),
        (r"lot\d|x", (0, 1, 0, 1)),
        ({Path(f"{f}/lot{n}.png"): f"{f == 'b' and n == 1}" for f in "ab" for n in (1, 2)}, (0, 0, 1, 0)),
    ],
)  # fmt: skip
def test_given_groups(by: GroupBy, expected: tuple[int, ...]) -> None:
    assert grouped(["a/lot1.png", "a/lot2.png", "b/lot1.png", "b/lot2.png"], by).numbers == expected


@pytest.mark.parametrize(
    ("by", "text"),
    [
        (
            r"lot(\d)",
            r"The pattern 'lot\(\\\\d\)' does not match .*b/c\.png\. Correct it: its first group in parenth",
        ),
        ("(", r"'\(' is no rule for groups: give none, found, folder, or a regular expression \(missing \)"),
        ("png", r"^All 2 images are of one group, 'png', but at least 2 groups are needed"),
        ({Path("a/lot1.png"): "p"}, r"b/c\.png has no label of its group\. Give one for each image"),
    ],
)
def test_rules_that_do_not_group_are_errors(by: GroupBy, text: str) -> None:
    with pytest.raises(DataError, match=text):
        grouped(["a/lot1.png", "b/c.png"], by)


def write(folder: Path, images: list[np.ndarray]) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        write_image(path, image)
    return paths


def test_photographs_of_one_part_are_a_group_in_any_order(tmp_path: Path) -> None:
    images = [
        part.image for run in range(4) for part in render_run(np.random.default_rng((1, run)), 5, size=SIZE)
    ]
    paths = write(tmp_path, images)
    assert grouped(paths, "found").numbers == tuple(np.repeat(range(4), 5).tolist())
    order = np.random.default_rng(0).permutation(20).tolist()
    shuffled = grouped(write(tmp_path, [images[number] for number in order]), "found").numbers
    part_of = {group: order[place] // 5 for place, group in enumerate(shuffled)}
    assert [part_of[group] for group in shuffled] == [number // 5 for number in order]


def state_time(path: Path, time: datetime) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 1  # without a tag outside the directory, Pillow writes none
    exif.get_ifd(0x8769).update({0x9003: f"{time:%Y:%m:%d %H:%M:%S}", 0x9291: f"{time:%f}"})
    with PillowImage.open(path) as image:
        image.load()
    image.save(path, exif=exif)


@pytest.mark.parametrize(("seconds", "by_time"), [(0.25, True), (0.0, False), (None, False)])
def test_runs_are_sought_in_the_order_of_capture_if_all_images_state_distinct_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, by_time: bool
) -> None:
    """Files are named in random order; without seconds, one image states no time."""
    order = np.random.default_rng(0).permutation(12).tolist()
    paths = write(tmp_path, [render_part(np.random.default_rng((2, n)), size=SIZE).image for n in order])
    for path, number in zip(paths[seconds is None :], order[seconds is None :], strict=True):
        state_time(
            path,
            datetime(2026, 3, 1, 12) + timedelta(seconds=(0.25 if seconds is None else seconds) * number),
        )
    sought: list[np.ndarray] = []

    def seen(embeddings: np.ndarray) -> list[list[int]]:
        sought.append(embeddings)
        return [[number, number + 1] for number in range(0, 12, 2)]

    monkeypatch.setattr("blemish.workflow.groups.find_runs", seen)
    groups = grouped(paths, "found").numbers
    sequence = [order.index(number) for number in range(12)] if by_time else list(range(12))
    expected = look_at([paths[place] for place in sequence], Preprocess(size=SIZE), "cpu", no_progress)
    np.testing.assert_allclose(sought[0], expected.embeddings, atol=1e-5)
    assert [groups[place] for place in sequence] == np.repeat(range(6), 2).tolist()


def test_independent_parts_are_groups_of_one(tmp_path: Path) -> None:
    images = [render_part(np.random.default_rng((2, number)), size=SIZE).image for number in range(16)]
    assert grouped(write(tmp_path, images), "found").numbers == tuple(range(16))


def test_a_run_of_most_images_is_divided_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [render_part(np.random.default_rng((2, number)), size=SIZE).image for number in range(20)]
    singles = [[number] for number in range(12, 20)]
    monkeypatch.setattr("blemish.workflow.groups.find_runs", lambda _: [[*range(12)], *singles])
    with pytest.warns(
        BlemishWarning, match=r"^12 of 20 images are near-copies of each other or of one run, so the "
    ):
        groups = grouped(write(tmp_path, images), "found")
    assert groups.numbers == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, *range(6, 14))
