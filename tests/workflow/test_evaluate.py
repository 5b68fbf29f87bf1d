"""`evaluate`: its numbers, its observer and report, and the test images that it refuses."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

import blemish
from blemish.data.images import read_image, write_image
from blemish.errors import BlemishWarning, DataError
from blemish.inspection.result import Inspection
from blemish.model import Model
from blemish.types import Mask, Sample
from tiny_product import fit, labelled_samples, normal_samples


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return fit(normal_samples(tmp_path / "train", 20), hold_out_share=0.4, false_alarm_rate=0.3)


def best_f1(labels: Any, scores: Any) -> float:
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def test_numbers_are_those_of_scikit_learn_at_the_original_resolution(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    found = blemish.evaluate(model, samples)

    singly = [model.inspect(sample.path) for sample in samples]
    labels = [sample.label for sample in samples]
    scores = np.array([inspection.score for inspection in singly])
    pixels = np.concatenate([inspection.anomaly_map.ravel() for inspection in singly])
    truth = np.concatenate(
        [
            read_image(s.mask_path)[:, :, 0].ravel() > 0
            if s.mask_path
            else np.zeros(i.anomaly_map.size, bool)
            for s, i in zip(samples, singly, strict=True)
        ]
    )
    assert len({inspection.anomaly_map.shape for inspection in singly}) == 12
    assert found.images == 24
    assert 0.5 < found_number(found.image_auroc) < 1
    expected = {
        "image_auroc": metrics.roc_auc_score(labels, scores),
        "image_ap": metrics.average_precision_score(labels, scores),
        "image_f1_max": best_f1(labels, scores),
        "pixel_auroc": metrics.roc_auc_score(truth, pixels),
        "pixel_ap": metrics.average_precision_score(truth, pixels),
        "pixel_f1_max": best_f1(truth, pixels),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=2e-4), name
    called = scores > model.calibration.image_threshold
    assert found.false_alarm_rate == called[np.array(labels) == 0].mean()
    assert found.miss_rate == 1 - called[np.array(labels) == 1].mean()
    assert found.image_scores == pytest.approx(scores, rel=1e-5)
    assert {name: row["images"] for name, row in found.by_type.items()} == {"faint": 6, "strong": 6}
    assert found.seconds_per_image is not None
    assert 0 < found.seconds_per_image < 10


def found_number(value: float | None) -> float:
    assert value is not None
    return value


def test_without_masks_there_are_no_pixel_numbers_but_a_reason(model: Model, tmp_path: Path) -> None:
    with_masks = blemish.evaluate(model, labelled_samples(tmp_path / "a"))
    without = blemish.evaluate(model, labelled_samples(tmp_path / "b", masks=False))
    assert without.image_auroc == with_masks.image_auroc
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"):
        assert getattr(without, name) is None
        assert "mask" in without.reasons[name]


def test_an_observer_sees_each_image_with_verdict_and_mask(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    seen: list[tuple[Sample, Inspection, Mask | None]] = []
    calls: list[tuple[str, int, int | None]] = []
    blemish.evaluate(
        model,
        samples,
        observe=lambda *what: seen.append(what),
        progress=lambda *what: calls.append(what),
    )
    assert [sample for sample, _, _ in seen] == samples
    for sample, inspection, mask in seen:
        np.testing.assert_array_equal(inspection.image, read_image(sample.path))
        alone = model.inspect(sample.path)
        assert inspection.path == sample.path
        assert inspection.score == pytest.approx(alone.score, rel=1e-5)
        assert inspection.verdict == alone.verdict
        assert (mask is not None) == bool(sample.label)
        if mask is not None:
            assert mask.sum() == np.count_nonzero(read_image(sample.mask_path or "")[:, :, 0])
    assert calls == [("evaluating", done, 24) for done in range(1, 25)]


def test_a_report_is_written(model: Model, tmp_path: Path) -> None:
    blemish.evaluate(model, labelled_samples(tmp_path / "test"), report=tmp_path / "report.html")
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")


def test_training_images_among_the_test_images_are_a_loud_warning(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    copy = tmp_path / "test" / "renamed.png"
    copy.write_bytes((tmp_path / "train" / "003.png").read_bytes())
    spoilt = [*samples, Sample(copy, 0, "test"), Sample(tmp_path / "train" / "007.png", 0, "test")]
    loaded = blemish.load(model.save(tmp_path / "model"))
    for one in (model, loaded):
        with pytest.warns(
            BlemishWarning, match=r"2 test images are also training images, .* first is .*renamed\.png"
        ):
            found = blemish.evaluate(one, spoilt)
        assert found.images == 26
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            blemish.evaluate(one, samples)


def test_nothing_to_evaluate_on(model: Model) -> None:
    with pytest.raises(DataError, match="There is no image to evaluate on"):
        blemish.evaluate(model, [])


def test_a_mask_of_another_size_is_refused(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    mask = samples[1].mask_path
    assert mask is not None
    write_image(mask, np.ones((5, 5), bool))
    with pytest.raises(DataError, match=rf"{mask.name} is a mask of 5×5 pixels"):
        blemish.evaluate(model, samples)


def test_masks_that_mark_nothing_are_named(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    masked = [sample for sample in samples if sample.mask_path]
    for sample in masked[1:3]:
        assert sample.mask_path
        write_image(sample.mask_path, np.zeros(read_image(sample.path).shape[:2], bool))
    with pytest.warns(BlemishWarning) as caught:
        blemish.evaluate(model, samples)
    assert [str(warning.message) for warning in caught] == [
        f"2 masks of anomalous images mark no pixel, the first is {masked[1].mask_path}, so the pixel metrics take "
        "these images for normal. Mark the defects, or label the images good."
    ]


def test_an_unreadable_test_image_is_named(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    samples[5].path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{samples[5].path.name} is empty"):
        blemish.evaluate(model, samples)
