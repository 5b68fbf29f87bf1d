"""The scores that thresholds rest on: of images that the scoring model did not learn from, nor from their groups."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import blemish
from blemish import plugins
from blemish.data.images import read_image, write_image
from blemish.data.preprocess import Preprocess, Resize
from blemish.demo import render_part
from blemish.demo.runs import render_run
from blemish.errors import DataError
from blemish.runtimes.torch import TorchRuntime
from blemish.types import Sample
from tensor_batches import TensorBatches
from tiny_product import Average, Spy, fit, normal_samples

PLATE = (72, 96)
BANK: dict[str, Any] = {"backbone": "compact", "coreset_ratio": 0.05, "coreset": "greedy"}


class Counting(Average):
    """Notes how many images each fit learns from."""

    counts: ClassVar[list[int]] = []

    def collect(self, batches: Any) -> None:
        self.counts.append(sum(map(len, batches)))
        super().collect(batches)


@pytest.fixture(autouse=True)
def _counting_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered, "counting", Counting)


def plates(folder: Path, images: Sequence[np.ndarray]) -> list[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    samples = [Sample(folder / f"{number:02}.png", 0, "train") for number in range(len(images))]
    for sample, image in zip(samples, images, strict=True):
        write_image(sample.path, image)
    return samples


def bank_of(samples: Sequence[Sample], arguments: dict[str, Any] = BANK, **options: Any) -> blemish.Model:
    return blemish.fit(
        "patchcore", samples, arguments=arguments, preprocess=Preprocess(size=PLATE), **options
    )


def test_a_method_without_training_learns_all_images_and_scores_each_by_a_model_of_other_folds(
    tmp_path: Path,
) -> None:
    samples = normal_samples(tmp_path, 10)
    spy = Spy()
    model = fit(samples, spy, group_by="none")
    data, calibration = model.manifest.data, model.calibration
    assert (data.learned_from, data.held_out, calibration.images, calibration.held_out) == (10, 0, 10, False)
    assert len(spy.learned_images) == 10
    in_bag = sorted(model.inspect(sample).score for sample in samples)
    assert np.mean(calibration.normal_scores) > np.mean(in_bag), "folds know less about the image"
    assert fit(samples, group_by="none").calibration == calibration, "the seed decides the folds"


def test_folds_do_not_part_groups(tmp_path: Path) -> None:
    """Each image of a pair of equal parts scores as if neither had been learned."""
    samples = normal_samples(tmp_path, 8)
    Counting.counts = []
    labels = {sample.path: f"{number // 2}" for number, sample in enumerate(samples)}
    model = fit(samples, Counting(), group_by=labels)
    assert Counting.counts == [8, 6, 6, 6, 6], "all, then four folds of a pair each"
    assert model.manifest.data.group_by == "labels"
    assert sorted(model.manifest.data.groups) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_bank_with_all_patches_scores_exactly_as_one_without_the_group(tmp_path: Path) -> None:
    samples = plates(tmp_path, [render_part(np.random.default_rng(n), size=PLATE).image for n in range(6)])
    labels = {sample.path: f"{number // 2}" for number, sample in enumerate(samples)}
    whole = {"backbone": "compact:random", "coreset_ratio": 1.0}
    found = bank_of(samples, whole, group_by=labels).calibration
    refitted = []
    for first in range(0, 6, 2):
        others = [*samples[:first], *samples[first + 2 :]]
        without = bank_of(others, whole, group_by="none")
        refitted += [without.inspect(sample).score for sample in samples[first : first + 2]]
    assert found.normal_scores == pytest.approx(sorted(refitted), rel=1e-3)


@pytest.mark.parametrize("grouped", [1, 2])
def test_a_coreset_without_a_group_scores_about_as_one_that_was_built_without_it(
    tmp_path: Path, grouped: int
) -> None:
    samples = plates(tmp_path, [render_part(np.random.default_rng(n), size=PLATE).image for n in range(24)])
    labels = {sample.path: f"{number // grouped}" for number, sample in enumerate(samples)}
    model = bank_of(samples, group_by=labels)
    score_of = left_out_scores(model, samples)
    ratios = []
    for number in range(0, 24, 4):
        others = [*samples[:number], *samples[number + grouped :]]
        refitted = bank_of(others, group_by="none", seed=1).inspect(samples[number]).score
        ratios.append(score_of[samples[number].path.name] / refitted)
    assert 0.93 < np.mean(ratios) < 1.07


@pytest.mark.parametrize("resize", ["squash", "fit"])
def test_patches_are_computed_once_and_scored_as_if_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Resize
) -> None:
    samples = plates(
        tmp_path, [render_part(np.random.default_rng(n), size=(96, 200)).image for n in range(8)]
    )
    embed, counts = blemish.PatchCore.embed, []

    def counting(method: blemish.PatchCore, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return embed(method, images)

    monkeypatch.setattr(blemish.PatchCore, "embed", counting)
    size = Preprocess(size=PLATE, resize=resize)
    model = blemish.fit("patchcore", samples, arguments=BANK, preprocess=size, group_by="none")
    assert sum(counts) == 8
    left_out_scores(model, samples)
    assert sum(counts) == 24, "without patches that were kept, two passes compute them"


def left_out_scores(model: blemish.Model, samples: Sequence[Sample]) -> dict[str, float]:
    """The score of each image without its group, by its name."""
    assert isinstance(model.runtime, TorchRuntime)
    assert isinstance(model.runtime.method, blemish.PatchCore)
    method, data = model.runtime.method, model.manifest.data
    by_name = {sample.path.name: sample for sample in samples}
    images = [model.preprocess(read_image(by_name[name].path)) for name in data.images]
    with torch.inference_mode():
        batches = TensorBatches(torch.from_numpy(np.stack(images)), 5)
        found = method.predict_left_out(batches, torch.tensor(data.groups))
        scores = [float(one.score) for one in found]
    assert method.kept is None, "learning has let it go"
    assert not len(method.memory_bank.substitutes.places), "they are not kept"
    assert sorted(scores) == pytest.approx(model.calibration.normal_scores, rel=1e-5)
    return dict(zip(data.images, scores, strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Sample], list[Sample]]:
    """Normal images of nine runs of ten near-copies each, and of other runs for tests."""
    folder = tmp_path_factory.mktemp("runs")

    def drawn(first: int, count: int, length: int) -> list[np.ndarray]:
        seeds = range(first, first + count)
        return [
            part.image
            for seed in seeds
            for part in render_run(np.random.default_rng(seed), length, size=PLATE)
        ]

    return plates(folder / "train", drawn(0, 9, 10)), plates(folder / "test", drawn(100, 20, 2))


def test_thresholds_by_groups_hold_on_other_runs_and_those_at_random_do_not(
    runs: tuple[list[Sample], list[Sample]],
) -> None:
    train, test = runs
    by_groups = bank_of(train, false_alarm_rate=0.05)
    at_random = bank_of(train, false_alarm_rate=0.05, calibrate="hold-out", group_by="none")
    assert len(set(by_groups.manifest.data.groups)) == 9
    assert by_groups.manifest.data.group_by == "found"
    report = test[0].path.parents[1] / "report.html"
    promised, kept = blemish.evaluate(at_random, test, report=report), blemish.evaluate(by_groups, test)
    assert kept.false_alarm_rate is not None
    assert promised.false_alarm_rate is not None
    assert kept.false_alarm_rate <= 0.15 + 3 * np.sqrt(0.15 * 0.85 / 20)
    assert promised.false_alarm_rate > 0.5
    assert promised.shift is not None
    assert promised.shift.is_clear
    assert str(promised.shift) in str(promised)
    assert str(promised.shift)[:60] in report.read_text("utf-8")
    assert "p" in promised.to_dict()["shift"]
    assert not (kept.shift is not None and kept.shift.is_clear)


def test_the_report_shows_suspected_images_and_the_summary_names_them(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "parts", 20)
    write_image(samples[7].path, np.full((48, 60, 3), 250, np.uint8))
    report = tmp_path / "report.html"
    model = fit(samples, group_by="none", report=report)
    assert (
        f"{samples[7].path} ({model.calibration.normal_scores[-1]:.4g}, suspected of a defect)"
        in model.summary()
    )
    assert "The image threshold rests on one image" in model.summary()
    page = report.read_text("utf-8")
    assert page.count("<img") > 2
    assert samples[7].path.name in page
    assert "Near-copies" not in page, "they were not counted here"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"calibrate": "cross", "shots": 2}, "With calibrate=cross no image is held out"),
        ({"calibrate": "cross", "hold_out_share": 0.2}, "With calibrate=cross no image is held out"),
        ({"calibrate": "never"}, "calibrate must be auto, cross or hold-out, got 'never'"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fit(normal_samples(tmp_path, 4), **options)


def test_shots_set_thresholds_by_other_groups_only(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 12)
    labels = {sample.path: f"{number // 4}" for number, sample in enumerate(samples)}
    data = fit(samples, shots=1, group_by=labels).manifest.data
    assert (data.learned_from, data.held_out) == (1, 8)
    with pytest.raises(DataError, match=r"--shots 12 .* needs normal images of other groups"):
        fit(samples, shots=12, group_by=labels)
