"""What `fit(exclude=…)` leaves out, and what it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.data.images import write_image
from blemish.errors import DataError
from blemish.types import Sample
from tiny_product import SMALL, draw_part, fit, normal_samples


@pytest.fixture
def parts(tmp_path: Path) -> list[Sample]:
    return normal_samples(tmp_path / "parts", 8)


def names(model: blemish.Model) -> set[str]:
    return set(model.manifest.data.images)


@pytest.mark.parametrize("kind", [list, tuple, set, iter])
def test_samples_paths_and_texts_are_left_out(parts: list[Sample], kind: Any) -> None:
    for given in (parts[:2], [s.path for s in parts[:2]], [str(s.path) for s in parts[:2]]):
        assert fit(parts, exclude=kind(given)).manifest.data.excluded == 2
    assert fit(parts, exclude=None).manifest.data.excluded == 0


def test_what_suspects_found_is_left_out(parts: list[Sample], tmp_path: Path) -> None:
    broken = Sample(tmp_path / "broken.png", 0, "train")
    broken.path.write_bytes(b"")
    found = blemish.suspects([*parts, broken], method="average", preprocess=SMALL)
    model = fit([*parts, broken], exclude=[*found.listed, *found.unreadable])
    assert model.manifest.data.excluded == len(found.listed) + 1
    assert not names(model) & {one.path.name for one in found.listed}


@pytest.mark.parametrize("wrong", [3, [3], [None], [b"a.png"]])
def test_what_is_no_image_is_one_error(parts: list[Sample], wrong: Any) -> None:
    with pytest.raises(
        DataError, match=r"^Images to exclude are paths, samples or what blemish\.suspects found, got "
    ):
        fit(parts, exclude=wrong)


@pytest.mark.parametrize("path", ["gone.png", "a\0b", "", Sample(Path("gone.png"), 0, "train")])
def test_what_is_not_among_the_images_is_named(parts: list[Sample], path: Any) -> None:
    with pytest.raises(DataError, match=r" is to be excluded, but is not among the images to learn from\."):
        fit(parts, exclude=[path])


def test_a_single_path_is_no_list(parts: list[Sample]) -> None:
    with pytest.raises(DataError, match=r" is a single path\. Give a list of the images to exclude\.$"):
        fit(parts, exclude=str(parts[0].path))


def test_an_error_says_that_all_are_excluded(parts: list[Sample]) -> None:
    with pytest.raises(DataError, match=r"^All 8 images to learn from are excluded\. Remove the normal ones"):
        blemish.fit("average", parts, exclude=parts)


@pytest.mark.skipif(os.name == "nt", reason="names are those of POSIX")
def test_a_name_that_stands_for_two_images_is_an_error(parts: list[Sample], tmp_path: Path) -> None:
    plain, escaped = (Sample(tmp_path / name, 0, "train") for name in ("a\\B.png", "a\\\\B.png"))
    for number, sample in enumerate((plain, escaped)):
        write_image(sample.path, draw_part(100 + number))
    images = [*parts, plain, escaped]
    with pytest.raises(
        DataError, match=r" is to be excluded, but two images are written like that: .*Rename one of them\.$"
    ):
        fit(images, exclude=[escaped.path])
    for alone, other in ((plain, escaped), (escaped, plain)):
        data = fit(images, exclude=[alone], hold_out_share=0.01).manifest.data
        assert data.excluded == 1
        expected = fit([*parts, other], hold_out_share=0.01).manifest.data
        assert set(data.hashes) == set(expected.hashes)
    assert fit(images, exclude=[str(plain.path)]).manifest.data.excluded == 1  # no other is written like that
