import json

import numpy as np
import pytest
from sklearn import metrics as reference

from blemish.errors import DataError
from blemish.metrics.evaluator import Evaluator
from blemish.metrics.overlap import aupro
from blemish.metrics.ranking import f1_max
from blemish.types import Map, Mask

KEYS = [
    "images",
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
    "false_alarm_rate",
    "miss_rate",
    "by_type",
    "seconds_per_image",
    "zero_misses",
    "missed",
    "shift",
]

Row = tuple[float, int, str, Map, Mask | None]


def sample_set(seed: int = 0) -> list[Row]:
    """Six normal images without masks, four cracks and three dents of differing sizes."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for index in range(13):
        shape = (20 + index, 30)
        kind = "good" if index < 6 else ("crack" if index < 10 else "dent")
        mask = np.zeros(shape, dtype=np.bool_)
        if kind != "good":
            mask[2:5, 3:9] = mask[10:12, 20:29] = True
        anomaly_map = (random.normal(20, 4, shape) + 5 * mask).astype(np.float32)
        score = float(anomaly_map.max()) + 3 * (kind == "crack")
        rows.append((score, int(kind != "good"), kind, anomaly_map, mask if kind != "good" else None))
    return rows


def evaluator_of(rows: list[Row], max_rows: int = 2**23) -> Evaluator:
    evaluator = Evaluator(max_rows)
    for row in rows:
        evaluator.update(*row)
    return evaluator


def filled(rows: list[Row]) -> tuple[list[Mask], list[Map]]:
    """Masks, all False where absent, and maps."""
    masks = [np.zeros(m.shape, dtype=np.bool_) if mask is None else mask for _, _, _, m, mask in rows]
    return masks, [row[3] for row in rows]


def pixels(rows: list[Row]) -> tuple[Mask, Map]:
    masks, maps = filled(rows)
    return np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])


def test_all_numbers_equal_their_references() -> None:
    rows = sample_set()
    threshold = float(np.median([row[0] for row in rows]))
    result = evaluator_of(rows).compute(threshold, seconds_per_image=0.25)
    scores, labels = [row[0] for row in rows], [row[1] for row in rows]
    truth, values = pixels(rows)
    assert result.images == 13
    assert result.image_auroc == pytest.approx(reference.roc_auc_score(labels, scores))
    assert result.image_ap == pytest.approx(reference.average_precision_score(labels, scores))
    assert result.image_f1_max == pytest.approx(f1_max(labels, scores).value)
    assert result.pixel_auroc == pytest.approx(reference.roc_auc_score(truth, values), abs=1e-12)
    assert result.pixel_ap == pytest.approx(reference.average_precision_score(truth, values), abs=1e-12)
    assert result.pixel_f1_max == pytest.approx(f1_max(truth, values).value, abs=1e-12)
    assert result.aupro == pytest.approx(aupro(*filled(rows)), abs=1e-9)
    assert result.false_alarm_rate == sum(s > threshold for s in scores[:6]) / 6
    assert result.miss_rate == sum(s <= threshold for s in scores[6:]) / 7
    assert result.seconds_per_image == 0.25
    assert result.reasons == {}
    assert result.errors == {}


def test_each_defect_type_is_measured_against_all_normal_images() -> None:
    rows = sample_set()
    threshold = rows[7][0]
    result = evaluator_of(rows).compute(threshold)
    assert list(result.by_type) == ["crack", "dent"]
    for kind in result.by_type:
        chosen = [row for row in rows if row[2] in ("good", kind)]
        scores, labels = [row[0] for row in chosen], [row[1] for row in chosen]
        truth, values = pixels(chosen)
        assert result.by_type[kind] == pytest.approx(
            {
                "images": sum(labels),
                "image_auroc": reference.roc_auc_score(labels, scores),
                "pixel_auroc": reference.roc_auc_score(truth, values),
                "aupro": aupro(*filled(chosen)),
                "miss_rate": sum(s <= threshold for s in scores[6:]) / sum(labels),
            },
            abs=1e-9,
        )


def test_a_score_at_the_threshold_is_ok() -> None:
    evaluator = Evaluator()
    flat = np.zeros((2, 2), dtype=np.float32)
    evaluator.update(5.0, 0, "good", flat, None)
    evaluator.update(5.0, 1, "dent", flat, np.eye(2, dtype=np.bool_))
    result = evaluator.compute(threshold=5.0)
    assert (result.false_alarm_rate, result.miss_rate) == (0.0, 1.0)


def test_pixel_metrics_without_masks_are_absent_with_a_reason() -> None:
    rows = [
        (score, label, kind, m, None if kind == "dent" else mask)
        for score, label, kind, m, mask in sample_set()
    ]
    result = evaluator_of(rows).compute(threshold=1.0)
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"):
        assert getattr(result, name) is None
        assert result.reasons[name] == "3 of 7 anomalous images have no mask"
    assert result.pixel_roc is None
    assert result.pro is None
    assert result.image_auroc is not None
    assert result.by_type["dent"]["pixel_auroc"] is None
    assert result.by_type["dent"]["image_auroc"] is not None
    assert result.by_type["crack"]["aupro"] == evaluator_of(sample_set()).compute().by_type["crack"]["aupro"]


def test_one_kind_of_image_leaves_numbers_absent_with_a_reason() -> None:
    good = evaluator_of(sample_set()[:6]).compute(threshold=1e9)
    assert (
        good.reasons["image_auroc"] == "the test set has no anomalous image, and a ranking needs both kinds"
    )
    assert good.reasons["aupro"] == "no pixel of the test set is marked as defective"
    assert good.reasons["miss_rate"] == "the test set has no anomalous image"
    assert (good.false_alarm_rate, good.miss_rate, good.image_roc) == (0.0, None, None)
    bad = evaluator_of(sample_set()[6:]).compute()
    assert bad.reasons["image_f1_max"] == "the test set has no normal image, and a ranking needs both kinds"
    assert bad.reasons["miss_rate"] == "no image threshold was given"
    assert bad.pixel_auroc is not None
    assert bad.by_type["crack"]["image_auroc"] is None
    assert bad.by_type["crack"]["pixel_auroc"] is not None


def test_an_image_that_is_all_defect_leaves_pixel_metrics_absent() -> None:
    evaluator = Evaluator()
    evaluator.update(1.0, 1, "dent", np.ones((3, 3), dtype=np.float32), np.ones((3, 3), dtype=np.bool_))
    assert evaluator.compute().reasons["pixel_ap"] == "every pixel of the test set is marked as defective"


def test_a_defect_type_may_have_any_name() -> None:
    """Even the name of the normal images or none: its pixels must not be counted twice or as normal."""
    expected = evaluator_of(sample_set()).compute()
    for name in ("", "good"):
        rows = [
            (s, label, name if kind == "crack" else kind, m, mask) for s, label, kind, m, mask in sample_set()
        ]
        result = evaluator_of(rows).compute()
        assert result.pixel_auroc == expected.pixel_auroc
        assert result.by_type[name] == expected.by_type["crack"]


def test_beyond_the_budget_every_error_bound_holds() -> None:
    rows = sample_set()
    exact, binned = evaluator_of(rows).compute(), evaluator_of(rows, max_rows=500).compute()
    assert set(binned.errors) >= {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "crack.aupro"}
    for name, bound in binned.errors.items():
        if "." in name:
            kind, metric = name.split(".")
            pair = exact.by_type[kind][metric], binned.by_type[kind][metric]
        else:
            pair = getattr(exact, name), getattr(binned, name)
        assert pair[0] is not None
        assert pair[1] is not None
        assert 0 < abs(pair[0] - pair[1]) <= bound < 0.2
    assert binned.image_auroc == exact.image_auroc


def test_to_dict_has_the_promised_keys_and_is_json() -> None:
    result = evaluator_of(sample_set()).compute(threshold=30.0, seconds_per_image=0.1)
    assert list(result.to_dict()) == KEYS
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    coarse = evaluator_of(sample_set(), max_rows=500).compute().to_dict()
    assert list(coarse) == [*KEYS, "reasons", "errors"]
    assert coarse["false_alarm_rate"] is None


def test_printing_names_each_number_or_the_reason() -> None:
    lines = str(evaluator_of(sample_set()).compute()).splitlines()
    assert lines[0] == "images            13 (6 normal, 7 anomalous)"
    assert lines[1].startswith("image_auroc       0.")
    assert lines[9:11] == ["miss_rate         – no image threshold was given", ""]


def test_curves_and_scores_are_kept_for_the_report() -> None:
    rows = sample_set()
    result = evaluator_of(rows).compute()
    assert result.image_scores == tuple(row[0] for row in rows)
    assert result.image_labels == (0,) * 6 + (1,) * 7
    assert result.defect_types == tuple(row[2] for row in rows)
    assert result.image_roc is not None
    assert result.pixel_roc is not None
    assert result.pro is not None
    assert np.trapezoid(result.image_roc.y, result.image_roc.x) == pytest.approx(result.image_auroc)
    assert np.trapezoid(result.pixel_roc.y, result.pixel_roc.x) == pytest.approx(result.pixel_auroc, abs=1e-3)
    assert np.trapezoid(result.pro.y, result.pro.x) / 0.3 == pytest.approx(result.aupro, abs=1e-3)
    assert len(result.pixel_roc.x) <= 500
    assert (len(result.pro.x) <= 500, result.pro.x[-1]) == (True, pytest.approx(0.3))


flat = np.zeros((4, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            (float("nan"), 0, "good", flat, None),
            "Image 1 has a score or an anomaly map that is NaN or infinite",
        ),
        ((1.0, 0, "good", flat + np.float32(np.inf), None), "NaN or infinite, so no metric can be computed"),
        (
            (1.0, 1, "dent", flat, np.ones((4, 5), dtype=np.bool_)),
            r"mask is \(4, 5\) and the anomaly map \(4, 4\)",
        ),
        (
            (1.0, 0, "good", flat, np.ones((4, 4), dtype=np.bool_)),
            "normal image has a mask with defective pixels",
        ),
        ((1.0, 2, "good", flat, None), r"label must be 0 \(normal\) or 1 \(anomalous\), got 2"),
    ],
    ids=["score", "map", "mask size", "mask of a normal image", "label"],
)
def test_what_cannot_be_measured_is_refused(row: Row, text: str) -> None:
    evaluator = Evaluator()
    with pytest.raises(DataError, match=text):
        evaluator.update(*row)


def test_an_empty_test_set_is_refused() -> None:
    with pytest.raises(DataError, match="no image to evaluate"):
        Evaluator().compute()
