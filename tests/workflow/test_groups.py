"""Groups of normal images, given and found."""

from pathlib import Path

import numpy as np
import pytest

from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.demo import render_part
from blemish.demo.runs import render_run
from blemish.errors import BlemishWarning, DataError
from blemish.types import Sample, no_progress
from blemish.workflow.groups import GroupBy, Groups, group_images

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
