"""New thresholds for a saved model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.manifest import FILE
from blemish.model import Model
from model_folder import broken_at, files, stored
from tiny_product import SMALL, Average, normal_samples


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"false_alarm_rate": 0.5}, lambda c: c.with_false_alarm_rate(0.5)),
        ({"image": 9.0}, lambda c: c.changed(image_threshold=9.0)),
        ({"pixel": 8.0}, lambda c: c.changed(pixel_threshold=8.0)),
        (
            {"false_alarm_rate": 0.5, "image": 9.0},
            lambda c: c.with_false_alarm_rate(0.5).changed(image_threshold=9.0),
        ),
    ],
)
def test_recalibration_changes_the_thresholds_only(
    tmp_path: Path, changes: dict[str, Any], expected: Callable[[Any], Any]
) -> None:
    model = blemish.fit(
        Average(), normal_samples(tmp_path / "parts", 8), preprocess=SMALL, hold_out_share=0.5
    )
    folder = model.save(tmp_path / "m")
    weights = stored(folder)
    status, content = weights.stat(), weights.read_bytes()
    manifest = blemish.recalibrate(folder, **changes)
    assert manifest == model.manifest.changed(calibration=expected(model.calibration))
    assert blemish.load(folder).manifest == manifest
    assert weights.read_bytes() == content
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == (status.st_mtime_ns, status.st_ino)
    assert sorted(path.name for path in folder.iterdir()) == [FILE, weights.name]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"false_alarm_rate": 0.0}, "between 0 and 1"),
        ({"false_alarm_rate": float("nan")}, "between 0 and 1"),
        ({"image": float("nan")}, "must be a number up to"),
        ({"pixel": float("inf")}, "must be a number up to"),
        ({"image": "5"}, "must be a number up to 1e.30, got '5'"),
        ({"pixel": True}, "must be a number up to"),
    ],
)
def test_impossible_thresholds_change_nothing(
    model: Model, tmp_path: Path, changes: dict[str, float], match: str
) -> None:
    model.save(tmp_path / "m")
    before = files(tmp_path / "m")
    with pytest.raises(ValueError, match=match):
        blemish.recalibrate(tmp_path / "m", **changes)
    assert files(tmp_path / "m") == before


def test_an_interrupted_recalibration_leaves_the_old_thresholds(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "m")
    before = files(tmp_path / "m")
    broken_at(monkeypatch, Path, "replace", 1, OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        blemish.recalibrate(tmp_path / "m", false_alarm_rate=0.5)
    assert files(tmp_path / "m") == before
