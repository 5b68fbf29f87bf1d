"""Auxiliary images: which are learned from, and that a training is resumed with the same ones only."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish import plugins
from blemish.data.images import write_image
from blemish.data.splits import hold_out
from blemish.errors import BlemishWarning, DataError, ModelError
from blemish.types import Sample
from tiny_product import SMALL, Average, normal_samples


class Aided(Average):
    """Trains a number for one step, and keeps what it sees of other products."""

    steps = 1
    epochs = 0
    batch_size = 4
    auxiliary_use: ClassVar[str] = "nothing"

    def build(self) -> None:
        super().build()
        self.gain_of_training = torch.nn.Parameter(torch.ones(()))
        self.counts: list[int] = []

    def collect(self, batches: Iterable[Tensor]) -> None:
        super().collect(batches)
        self.counts = [product.count for product in self.auxiliary_products]

    def training_loss(self, images: Tensor) -> Tensor:
        return (self.gain_of_training * images.nan_to_num().mean()).square()


@pytest.fixture(autouse=True)
def _aided_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"aided": Aided})


@pytest.fixture
def parts(tmp_path: Path) -> list[Sample]:
    return normal_samples(tmp_path / "parts", 6)


def product(folder: Path, count: int, first_seed: int) -> list[Sample]:
    return [
        replace(sample, category=folder.name)
        for sample in normal_samples(folder, count, first_seed=first_seed)
    ]


def fit(parts: list[Sample], auxiliary: Any, **options: Any) -> Aided:
    method = Aided()
    blemish.fit(method, parts, preprocess=SMALL, auxiliary=auxiliary, **options)
    return method


def test_training_is_resumed_with_the_same_auxiliary_images_only(tmp_path: Path, parts: list[Sample]) -> None:
    one, other = product(tmp_path / "one", 3, 50), product(tmp_path / "other", 3, 60)
    state = tmp_path / "state"
    fit(parts, [*one, *other], checkpoint=state)
    moved = [
        replace(sample, path=Path(shutil.copy(sample.path, tmp_path / f"moved{number}.png")))
        for number, sample in enumerate([*one, *other])
    ]
    fit(parts, moved, checkpoint=state, resume=True)
    changed = [*product(tmp_path / "changed", 3, 70), *other]
    swapped = [*other, *one]
    joined = [replace(sample, category="") for sample in [*one, *other]]
    for wrong in (changed, swapped, one[::-1] + other, joined, one):
        with pytest.raises(
            ModelError, match=r"^The unfinished training in .* differs in: auxiliary images\. Use the same"
        ):
            fit(parts, wrong, checkpoint=state, resume=True)


def test_training_is_resumed_with_the_same_order_of_images_only(tmp_path: Path, parts: list[Sample]) -> None:
    """The batches of an epoch follow from it, and names do not tell where they are the same in all folders."""

    def placed(folder: str, samples: list[Sample]) -> list[Sample]:
        paths = [tmp_path / folder / str(number) / "part.png" for number in range(len(samples))]
        for sample, path in zip(samples, paths, strict=True):
            path.parent.mkdir(parents=True)
            shutil.copy(sample.path, path)
        return [Sample(path, 0, "train") for path in paths]

    state = tmp_path / "state"
    fit(placed("a", parts), (), checkpoint=state, hold_out_share=0.01)
    fit(placed("b", parts), (), checkpoint=state, hold_out_share=0.01, resume=True)
    held_out = hold_out(placed("c", parts), 0.01)[1][0].path.parent.name
    first, second = [number for number in range(6) if str(number) != held_out][:2]
    parts[first], parts[second] = parts[second], parts[first]
    with pytest.raises(ModelError, match=r"differs in: images\."):
        fit(placed("d", parts), (), checkpoint=state, hold_out_share=0.01, resume=True)


def test_images_given_twice_are_used_once(tmp_path: Path, parts: list[Sample]) -> None:
    one, other = product(tmp_path / "one", 3, 50), product(tmp_path / "other", 4, 60)
    shutil.copy(one[0].path, tmp_path / "other" / "copy.png")
    copy = replace(other[0], path=tmp_path / "other" / "copy.png")
    again = [replace(sample, category="again") for sample in one]
    with pytest.warns(
        BlemishWarning, match=r"^4 of 11 images are copies of others and left out: the first, "
    ):
        assert fit(parts, [*one, *other, copy, *again]).counts == [3, 4]


def test_a_warning_names_auxiliary_images_that_are_images_of_the_product(
    tmp_path: Path, parts: list[Sample]
) -> None:
    others = product(tmp_path / "others", 3, 50)
    same = [replace(others[0], path=Path(shutil.copy(s.path, tmp_path / s.path.name))) for s in parts[:2]]
    with pytest.warns(
        BlemishWarning,
        match=rf"^2 auxiliary images are also images of the product; the first is {same[0].path}, the same as "
        rf"{parts[0].path}\. Give images of other things only\.$",
    ):
        fit(parts, [*others, *same])


def test_all_unreadable_auxiliary_images_are_named(tmp_path: Path, parts: list[Sample]) -> None:
    others = product(tmp_path / "others", 4, 50)
    others[1].path.write_bytes(b"")
    others[3].path.write_text("not an image")
    parts[2].path.write_text("no image either")
    with pytest.raises(DataError, match=r"^3 of 10 images cannot be read:\n.*PNG.*\n.*is empty.*\n.*PNG"):
        fit(parts, others)


def test_unreadable_auxiliary_images_can_be_skipped(tmp_path: Path, parts: list[Sample]) -> None:
    others = product(tmp_path / "others", 4, 50)
    others[1].path.write_bytes(b"")
    others[2].path.write_text("not an image")
    with pytest.warns(
        BlemishWarning,
        match=rf"^2 auxiliary images cannot be read and are left out; the first: {others[1].path} is empty",
    ):
        assert fit(parts, others, skip_unreadable=True).counts == [2]
    for sample in others:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^None of the 4 auxiliary images can be read: .* is empty"):
        fit(parts, others, skip_unreadable=True)


@pytest.mark.parametrize("wrong", ["aux1", Path("aux1"), [3], 3, None, [None]])
def test_what_are_no_auxiliary_images_is_one_error(parts: list[Sample], wrong: Any) -> None:
    with pytest.raises(DataError, match=r"is a single path\.|^Images are samples or paths, got "):
        fit(parts, wrong)


def test_different_sizes_are_auxiliary_images_as_well(tmp_path: Path, parts: list[Sample]) -> None:
    write_image(tmp_path / "large.png", np.zeros((300, 200, 3), np.uint8))
    assert fit(parts, [str(tmp_path / "large.png")]).counts == [1]
