"""`evaluate`: its numbers, its observer and report, and the test images that it refuses."""

import csv
import errno
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
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.types import Mask, Sample
from tiny_product import fit, labelled_samples, normal_samples, tiny_model


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
    assert [call for call in calls if call[0] == "evaluating"] == [
        ("evaluating", done, 24) for done in range(1, 25)
    ]


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


def test_masks_that_mark_nothing_are_refused_before_the_evaluation_unless_allowed(
    model: Model, tmp_path: Path
) -> None:
    samples = labelled_samples(tmp_path / "test")
    masked = [sample for sample in samples if sample.mask_path]
    for sample in masked[1:5]:
        assert sample.mask_path
        write_image(sample.mask_path, np.zeros(read_image(sample.path).shape[:2], bool))
    phases: list[str] = []
    with pytest.raises(DataError) as error:
        blemish.evaluate(model, samples, progress=lambda phase, *_: phases.append(phase))
    first = ", ".join(str(sample.mask_path) for sample in masked[1:4])
    assert str(error.value) == (
        f"4 masks of anomalous images mark no pixel: {first} …. Mark the defects, or label the images good; "
        "--allow-blank-masks (allow_blank_masks=True) evaluates all the same."
    )
    assert set(phases) == {"checking masks"}

    with pytest.warns(BlemishWarning) as caught:
        found = blemish.evaluate(model, samples, allow_blank_masks=True)
    assert [str(warning.message) for warning in caught] == [
        f"4 masks of anomalous images mark no pixel, the first is {masked[1].mask_path}, so the pixel metrics take "
        "these images for normal. Mark the defects, or label the images good."
    ]
    assert found.images == len(samples)


def test_missed_defects_and_the_price_of_missing_none(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    labels = np.array([sample.label for sample in samples])
    scores = np.array(blemish.evaluate(model, samples).image_scores)
    threshold = float(np.median(scores[labels == 1]))
    calibration = model.calibration.with_thresholds(image=threshold)
    model.manifest = model.manifest.changed(calibration=calibration)
    found = blemish.evaluate(model, samples)
    expected = [
        (sample.path, sample.defect_type, score)
        for sample, score in zip(samples, found.image_scores, strict=True)
        if sample.label and score <= threshold
    ]
    assert expected
    assert [tuple(image) for image in found.missed] == sorted(expected, key=lambda image: image[2])
    assert all(f"{path} ({kind}, score {score:.4g})" in str(found) for path, kind, score in expected)

    price = found.zero_misses
    assert price is not None
    lowest = scores[labels == 1].min()
    assert lowest * 0.999 < price.threshold < lowest
    assert float(f"{price.threshold:.4g}") == price.threshold
    assert price.false_alarm_rate == (scores[labels == 0] > price.threshold).mean()
    assert (
        f"No defect of these images is missed at the image threshold {price.threshold:.4g}, "
        f"with {100 * price.false_alarm_rate:.1f} % false alarms."
    ) in str(found)
    assert blemish.evaluate(model, [s for s in samples if s.label]).zero_misses is None


@pytest.mark.parametrize("lowest", [0.0, 1.0, -3.25, 0.123449, 12340.0, 1e-310, 5e-324, 0.1 + 0.2, 1e12])
def test_the_threshold_of_no_misses_is_printed_without_loss(lowest: float) -> None:
    evaluator = Evaluator()
    for score, label in ((lowest, 1), (lowest - abs(lowest) - 1, 0)):
        evaluator.update(score, label, "spot" if label else "good", np.zeros((2, 2), np.float32), None)
    price = evaluator.compute(0.0).zero_misses
    assert price is not None
    assert price.threshold < lowest
    assert float(f"{price.threshold:.4g}") == price.threshold
    assert price.threshold == pytest.approx(lowest, rel=1e-3, abs=1e-300)
    assert price.false_alarm_rate == 0


def test_a_table_has_a_row_for_each_image(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    found = blemish.evaluate(model, samples)
    found.write_csv(tmp_path / "表 1.csv")
    with (tmp_path / "表 1.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], int(row["label"]), row["defect_type"]) for row in rows] == [
        (str(sample.path), sample.label, sample.defect_type) for sample in samples
    ]
    assert tuple(float(row["score"]) for row in rows) == found.image_scores
    assert {float(row["threshold"]) for row in rows} == {model.calibration.image_threshold}
    assert [row["verdict"] for row in rows] == [
        "NG" if score > model.calibration.image_threshold else "OK" for score in found.image_scores
    ]


def test_a_report_that_cannot_be_written_at_the_end_costs_no_numbers(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("blemish.reports.html.write_whole", full)
    with pytest.warns(BlemishWarning) as caught:
        found = blemish.evaluate(model, labelled_samples(tmp_path / "test"), report=tmp_path / "r.html")
    assert [str(warning.message) for warning in caught] == [
        f"The report {tmp_path / 'r.html'} was not written: No space left on device. Make room or name another file, "
        "and evaluate again."
    ]
    assert (found.images, found.report) == (24, None)


def test_an_unreadable_test_image_is_named(model: Model, tmp_path: Path) -> None:
    samples = labelled_samples(tmp_path / "test")
    samples[5].path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{samples[5].path.name} is empty"):
        blemish.evaluate(model, samples)


@pytest.mark.parametrize("samples", [None, "folder", Path("folder"), 5, [Path("a.png")], [None]])
def test_what_are_no_samples_is_named(tmp_path: Path, samples: Any) -> None:
    wrong = samples[0] if isinstance(samples, list) else samples
    text = f"^Images to evaluate are labelled samples, got {type(wrong).__name__}\\. Give, e"
    with pytest.raises(DataError, match=text):
        blemish.evaluate(tiny_model(tmp_path / "parts"), samples)
