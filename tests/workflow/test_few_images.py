"""`fit` from a few shots, and with auxiliary images of several products."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from torch import Tensor

from blemish import plugins
from blemish.errors import DataError
from tiny_product import Average, fit, normal_samples


class Comparing(Average):
    """Counts the images of each auxiliary product."""

    auxiliary_use: ClassVar[str] = "comparisons"

    def collect(self, batches: Iterable[Tensor]) -> None:
        super().collect(batches)
        assert self.auxiliary is not None
        self.products = [sum(map(len, product)) for product in self.auxiliary_products]
        self.together = sum(map(len, self.auxiliary))


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered, "comparing", Comparing)


def test_shots_are_learned_from_and_all_others_set_the_thresholds(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 12)
    few, more = (fit(samples, shots=shots, seed=1).manifest.data for shots in (2, 3))
    assert (few.learned_from, few.held_out) == (2, 10)
    assert (more.learned_from, more.held_out) == (3, 9)
    assert {*few.images} < {*more.images}
    assert fit(samples, shots=2, seed=2).manifest.data.images != few.images
    assert fit(samples, shots=11).manifest.data.held_out == 1


def test_copies_do_not_count_as_shots(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    samples[3].path.write_bytes(samples[0].path.read_bytes())
    with (
        pytest.warns(UserWarning, match="copies of others"),
        pytest.raises(DataError, match=r"^--shots 3 \(shots=3\) needs normal images of other groups "),
    ):
        fit(samples, shots=3)


def test_fewer_than_one_shot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The number of shots must be a whole number from 1, got 0"):
        fit(normal_samples(tmp_path, 3), shots=0)


def test_auxiliary_samples_are_products_by_their_category(tmp_path: Path) -> None:
    samples, paths = normal_samples(tmp_path / "parts", 4), normal_samples(tmp_path, 9, first_seed=50)
    others = [replace(sample, category="abb"[index % 3]) for index, sample in enumerate(paths)]
    method = Comparing()
    fit(samples, method, auxiliary=others)
    assert (method.products, method.together) == ([3, 6], 9)
    method = Comparing()
    fit(samples, method, auxiliary=[sample.path for sample in paths])
    assert (method.products, method.together) == ([9], 9)


def test_a_checkpoint_knows_the_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    samples, paths = normal_samples(tmp_path / "parts", 4), normal_samples(tmp_path, 6, first_seed=50)

    class Kept:
        def __init__(self, folder: Path, identity: dict[str, object], *, resume: bool) -> None:
            seen.append(len(identity["auxiliary images"]))  # type: ignore[arg-type]

    monkeypatch.setattr("blemish.training.checkpoint.Checkpoint", Kept)
    for others in (
        paths,
        [replace(sample, category="a" if sample.path.stem < "052" else "b") for sample in paths],
    ):
        fit(samples, Comparing(), auxiliary=others, checkpoint=tmp_path / "unfinished")
    assert seen == [1, 2]
