"""Scores of images by a model that may have learned from them, compared with models that did not."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import blemish
from blemish.errors import MethodError
from blemish.manifest import TrainingData
from blemish.metrics.outliers import robust_z
from blemish.training import learn
from blemish.training.leave_out import predict_without
from blemish.types import Sample, no_progress
from blemish.workflow.cross_scores import Recipe
from blemish.workflow.model_scores import UNKNOWN, score_with_model, training_numbers
from tiny_product import SMALL, normal_samples

WHOLE_BANK = {"backbone": "compact:random", "coreset_ratio": 1.0, "neighbours": 3}


def recipe(model: blemish.Model) -> Recipe:
    return Recipe(model.manifest.method, model.manifest.arguments, model.preprocess, 0, "cpu")


def test_a_bank_without_an_image_is_the_bank_learned_without_it() -> None:
    images = np.random.default_rng(0).random((5, 3, 32, 40)).astype(np.float32)
    method = blemish.PatchCore(**WHOLE_BANK)  # type: ignore[arg-type]
    learn(method, images)
    for number in range(5):
        fresh = blemish.PatchCore(**WHOLE_BANK)  # type: ignore[arg-type]
        learn(fresh, np.delete(images, number, axis=0))
        score, anomaly_map = predict_without(method, images[number], [number])
        with torch.no_grad():
            expected = fresh.eval()(torch.from_numpy(images[number][None]))
        assert score == pytest.approx(float(expected.score), rel=1e-4)
        np.testing.assert_allclose(anomaly_map, expected.anomaly_map[0].numpy(), rtol=1e-4, atol=1e-5)


def test_most_methods_cannot_leave_an_image_out() -> None:
    method = blemish.Variation()
    assert not method.leaves_out
    assert blemish.PatchCore(backbone="compact:random").leaves_out
    with pytest.raises(MethodError, match=r"^Variation cannot leave out training images\. Fit it again"):
        method.score_without(torch.zeros(1, 3, 8, 8), torch.tensor([0]))


def test_a_memory_bank_scores_new_images_as_they_are_and_learned_ones_without_themselves(
    tmp_path: Path,
) -> None:
    old, new = normal_samples(tmp_path / "old", 6), normal_samples(tmp_path / "new", 4, first_seed=50)
    model = blemish.fit(
        "patchcore", old, arguments=WHOLE_BANK, preprocess=SMALL, calibrate="hold-out", group_by="none"
    )
    taken: list[int] = []
    found, how = score_with_model(
        model, recipe(model), [*old, *new], [], lambda _, number, __: taken.append(number), no_progress
    )
    assert sorted(taken) == list(range(10))
    assert how.startswith(
        "The model scored 5 images that it had not learned from, and 5 without"
    )  # one held out
    held_out = {sample.path.name for sample in old} - set(model.manifest.data.images)
    for place, sample in enumerate([*old, *new]):
        plain = model.inspect(sample).score
        if place >= 6 or sample.path.name in held_out:
            assert found.scores[place] == pytest.approx(plain, rel=1e-4)
        else:
            assert found.scores[place] > plain + 0.01
    assert np.isfinite(found.z).all()


def test_other_methods_are_fitted_anew_for_images_that_they_learned_from(tmp_path: Path) -> None:
    old, new = normal_samples(tmp_path / "old", 10), normal_samples(tmp_path / "new", 3, first_seed=50)
    model = blemish.fit("average", old, preprocess=SMALL, calibrate="hold-out", group_by="none")
    found, how = score_with_model(model, recipe(model), [*old, *new], [], lambda *_: None, no_progress)
    assert how.endswith("Models fitted anew scored 9 that it had learned from and cannot leave out.")
    direct = [model.inspect(sample).score for sample in new]
    assert found.scores[10:] == pytest.approx(direct, rel=1e-4)
    learned = [place for place in range(10) if old[place].path.name in model.manifest.data.images]
    assert found.scores[learned].mean() > np.mean([model.inspect(old[place]).score for place in learned])
    assert found.z[learned] == pytest.approx(robust_z(found.scores[learned]))


def test_a_bank_of_one_image_leaves_none_out(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "old", 8)
    one = {"backbone": "compact:random", "bank_size": 1}
    model = blemish.fit("patchcore", samples, arguments=one, preprocess=SMALL)
    found, how = score_with_model(model, recipe(model), samples, [], lambda *_: None, no_progress)
    assert how.endswith("and 0 without what it had learned from them. Models fitted anew scored 8 that it had "
                        "learned from and cannot leave out.")  # fmt: skip
    assert np.isfinite(found.scores).all()
    assert np.isfinite(found.z).all()


def test_a_bank_that_keeps_only_a_new_image_is_one_error(tmp_path: Path) -> None:
    method = blemish.PatchCore(backbone="compact:random", bank_size=1)
    blemish.fit(method, normal_samples(tmp_path / "old", 6), preprocess=SMALL)
    bank = method.memory_bank
    bank.origins = torch.full_like(bank.origins, 6)
    with pytest.raises(
        MethodError, match=r"^All patches of the memory bank are from the images that are left out"
    ):
        method.score_without(torch.zeros(1, 3, *SMALL.size), torch.tensor([6]))


NAMES = ["a.png", "b.png", "sub/a.png"]


def data_of(names: list[str], held_out: list[str]) -> TrainingData:
    hashes = [digest(name)[:16] for name in [*names, *held_out]]
    return TrainingData(
        category="", learned_from=len(names), held_out=len(held_out), skipped=0, images=tuple(names),
        group_by="none", groups=tuple(range(len(names))), fingerprint="0" * 64, hashes=tuple(hashes),
    )  # fmt: skip


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def samples_of(names: list[str], folder: str = "/data") -> list[Sample]:
    return [Sample(Path(folder, name), 0, "train") for name in names]


def test_training_images_are_known_by_content_and_name() -> None:
    data = data_of(["b.png", "a.png", "sub/a.png"], ["c.png"])
    names = ["a.png", "c.png", "sub/a.png", "b.png", "new.png"]
    found = training_numbers(data, samples_of(names), [digest(name) for name in names])
    assert found == {0: 1, 2: 2, 3: 0}  # c.png is held out: all that were learned from are elsewhere


def test_names_that_do_not_tell_make_no_number() -> None:
    data = data_of(["b.png", "a.png"], ["c.png"])
    renamed = training_numbers(data, samples_of(["x.png", "b.png"]), [digest("a.png"), digest("b.png")])
    assert renamed == {0: UNKNOWN, 1: 0}
    twice = data_of(["a.png", "a.png"], [])  # of two updates
    assert training_numbers(twice, samples_of(["a.png"]), [digest("a.png")]) == {0: UNKNOWN}


@settings(max_examples=30)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_every_image_that_was_learned_from_is_found(order: list[int], given_count: int) -> None:
    names = [f"{number}.png" for number in order]
    data = data_of(names[:4], names[4:])
    shown = sorted(names)[:given_count]
    found = training_numbers(data, samples_of(shown), [digest(name) for name in shown])
    for place, name in enumerate(shown):
        if name in names[:4]:
            assert found[place] == names.index(name)
        else:  # held out: told from what was learned only if all of that is there
            assert found.get(place, UNKNOWN) == UNKNOWN
