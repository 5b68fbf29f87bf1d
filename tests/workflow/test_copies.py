"""Copies of an image count once, and never lie on both sides of the split."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemish
from blemish.data.content import content_hashes, without_copies
from blemish.errors import BlemishWarning, DataError
from blemish.methods.patchcore import PatchCore
from blemish.types import Sample
from tiny_product import SMALL, Spy, fit, normal_samples


def copied(sample: Sample, name: str) -> Sample:
    return Sample(Path(shutil.copy(sample.path, sample.path.with_name(name))), 0, "train", category="disc")


def test_copies_change_nothing_but_a_warning(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 8)
    spy, plain = Spy(), Spy()
    expected = fit(samples, plain, hold_out_share=0.3)
    copies = [copied(sample, f"z-{sample.path.stem}-{i}.png") for sample in samples for i in range(3)]
    with pytest.warns(
        BlemishWarning,
        match=rf"^24 of 32 images are copies of others and left out: the first, {copies[0].path}, has the same "
        rf"bytes as {samples[0].path}\. Each image counts once\.$",
    ):
        model = fit([*copies, *samples], spy, hold_out_share=0.3)
    assert model.manifest.data.learned_from == 6
    assert {*model.manifest.data.hashes} == {*expected.manifest.data.hashes}
    assert model.manifest.data.fingerprint == expected.manifest.data.fingerprint
    assert model.calibration == expected.calibration
    assert {image.tobytes() for image in spy.learned_images} == {
        image.tobytes() for image in plain.learned_images
    }


def test_image_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    expected = fit(samples, calibrate="hold-out").manifest.data
    again = [*samples, samples[1], Sample(samples[1].path, 0, "train")]
    with pytest.warns(
        BlemishWarning, match=rf"^2 of 6 images are copies .* the first, {samples[1].path}, is listed twice\."
    ):
        found = fit(again, calibrate="hold-out").manifest.data
    assert (found.learned_from, found.held_out, found.fingerprint) == (3, 1, expected.fingerprint)


@pytest.mark.skipif(sys.platform == "win32", reason="links are those of POSIX")
def test_link_and_its_target_count_once(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    (tmp_path / "link.png").symlink_to(samples[0].path)
    with pytest.warns(BlemishWarning, match=r"^1 of 5 images are copies"):
        assert fit([*samples, Sample(tmp_path / "link.png", 0, "train")]).manifest.data.learned_from == 4


def test_images_that_are_all_the_same_are_too_few(tmp_path: Path) -> None:
    (sample,) = normal_samples(tmp_path, 1)
    copies = [copied(sample, f"{index}.png") for index in range(3)]
    with (
        pytest.warns(BlemishWarning, match=r"^3 of 4 images are copies"),
        pytest.raises(
            DataError, match=r"^Found 1 different normal training image\(s\), but at least 2 are needed"
        ),
    ):
        fit([sample, *copies])


def test_an_update_counts_copies_once(tmp_path: Path) -> None:
    method = PatchCore(backbone="compact:random", coreset_ratio=1.0)
    model = blemish.fit(method, normal_samples(tmp_path / "old", 5), preprocess=SMALL)
    before = model.calibration.images
    first, second = normal_samples(tmp_path / "new", 2, first_seed=50)
    again = copied(second, "again.png")
    with pytest.warns(
        BlemishWarning, match=rf"^2 of 4 images are copies of others and left out: the first, {first.path}"
    ):
        added = blemish.update(model, [first, second, first, again])
    assert added.images == 2
    assert model.calibration.images == before + 2
    assert model.manifest.data.images[-2:] == (first.path.name, second.path.name)


@pytest.mark.filterwarnings("ignore::blemish.errors.BlemishWarning")
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=12), st.randoms(use_true_random=False)
)
def test_one_of_each_content_is_kept_whatever_the_order(
    contents: list[tuple[int, int]], random: "object"
) -> None:
    samples = [Sample(Path(f"{name}-{content}.png"), 0, "train") for content, name in contents]
    hashes = {sample.path: sample.path.stem.split("-")[1] for sample in samples}

    def kept(given: Sequence[Sample]) -> list[Path]:
        return [sample.path for sample in without_copies(given, hashes)]

    found = kept(samples)
    assert sorted(hashes[path] for path in found) == sorted({*hashes.values()})
    assert found == sorted(found, key=[sample.path for sample in samples].index)
    random.shuffle(samples)  # type: ignore[attr-defined]
    assert set(kept(samples)) == set(found)


def test_unreadable_test_images_do_not_end_a_fit(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    absent = [Sample(tmp_path / "gone.png", 1, "test", "hole"), Sample(tmp_path, 1, "test", "hole")]
    assert fit(samples, test=absent).manifest.data.learned_from == 4
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        content_hashes([absent[0].path])
