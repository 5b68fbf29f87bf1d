"""The report is one safe, self-contained file that says what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.calibration import Calibration
from blemish.data.preprocess import Preprocess
from blemish.manifest import History, Manifest, TrainingData
from blemish.metrics.evaluator import Evaluator
from blemish.reports import write_report
from blemish.reports.evaluation import ReportBuilder
from blemish.reports.html import MAX_IMAGES, format_metric
from report_pages import make_item, make_report, read

HOSTILE = "<script>alert('x')</script>\"onerror=alert(1) {{ 7*7 }} & 划痕.png"


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", make_report())
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source))
    page = read(path)
    assert not {"script", "link", "iframe", "object", "form", "a"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in {"src", "href", "srcset", "action"}]
    assert len(sources) == 1 + 2 + 3 + 3, "the colour bar and the panels"
    assert all(value.startswith("data:image/webp;base64,") for value in sources)
    policy = [value for name, value in page.attributes if value.startswith("default-src")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_numbers_verdicts_and_reasons_are_said(tmp_path: Path) -> None:
    text = read(write_report(tmp_path / "报告 1.html", make_report())).text
    for expected in (
        "Missed defects 漏检 1 of 3",
        "False alarms 过杀 1 of 3",
        "Image AUROC 图像级 0.9877",
        "– 3 of 3 anomalous images have no mask",
        "False-alarm rate 过杀率 25.0 %",
        "dent 3 0.9000 – 33.3 %",
        "threshold 2",
        "score 1.4 · threshold 2",
        "Thresholds rest on 6 held-out normal images.",
        "coreset_ratio 0.01",
    ):
        assert expected in re.sub(r" +", " ", text), expected


def test_mistakes_come_before_detections(tmp_path: Path) -> None:
    text = read(write_report(tmp_path / "report.html", make_report())).text
    places = [text.index(name) for name in ("test/dent/4.png", "test/good/7.png", "test/dent/5.png")]
    assert places == sorted(places)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    plain = make_report()
    hostile = replace(
        plain,
        title=HOSTILE,
        method=HOSTILE,
        category=HOSTILE,
        date=HOSTILE,
        arguments={HOSTILE: HOSTILE},
        dataset={HOSTILE: HOSTILE},
        metrics={HOSTILE: None},
        reasons={HOSTILE: HOSTILE},
        by_type={HOSTILE: {HOSTILE: 0.5}},
        calibration_text=HOSTILE,
        losses=[{HOSTILE: 1.0, "\udcff": 2.0, "x" * 100_000: 3.0}],
        gallery=[make_item(HOSTILE, defect_type=HOSTILE)],
        environment={HOSTILE: HOSTILE},
    )
    page = read(write_report(tmp_path / "report.html", hostile))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.texts.count(HOSTILE) >= 12
    assert "x" * 61 not in page.text
    assert "49" not in [text.strip() for text in page.texts]


def test_a_name_that_is_no_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    report = replace(make_report(), gallery=[make_item("test/\udcff.png")])
    assert "test/?.png" in read(write_report(tmp_path / "report.html", report)).text


def test_absent_curves_and_types_are_said(tmp_path: Path) -> None:
    reasons = {"image_auroc": "the test set has no anomalous image", "aupro": "no mask"}
    report = replace(
        make_report(),
        roc=None,
        pro=None,
        by_type={},
        gallery=[],
        metrics=dict.fromkeys(reasons),
        reasons=reasons,
    )
    report = replace(report, scores=np.array([1.0, 1.0]), labels=np.array([0, 0]))
    page = read(write_report(tmp_path / "report.html", report))
    assert "polyline" not in page.tags
    assert page.text.count("the test set has no anomalous image") == 2
    assert "The test set has no defective image." in page.text
    assert "No image was selected." in page.text


def test_losses_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    losses = [{"loss": 1.0, "held_out": 1.5}, {"loss": 0.5, "held_out": 0.75}]
    plain = read(write_report(tmp_path / "plain.html", make_report()))
    page = read(write_report(tmp_path / "report.html", replace(make_report(), losses=losses)))
    assert "Training losses" not in plain.text
    assert not {value for name, value in plain.attributes if name == "class" and "loss" in value}
    assert "Training losses 训练损失" in page.text
    assert "loss 损失 , last 0.5" in page.text
    assert "loss on held-out normal images 留出良品上的损失 , last 0.75" in page.text
    assert page.tags.count("polyline") - plain.tags.count("polyline") == 3
    assert ("points", "0.0,100.0 760.0,192.6 ") in page.attributes
    assert "logarithmic" not in page.text


def test_the_losses_of_one_epoch_are_dots_beside_a_legend(tmp_path: Path) -> None:
    losses = [{f"part {number}": 10.0**number for number in range(8)}]
    page = read(write_report(tmp_path / "report.html", replace(make_report(), losses=losses)))
    assert page.tags.count("circle") == 2 * 6
    assert "mean loss, logarithmic" in page.text
    assert "part 5, last 1e+05" in page.text
    assert "not drawn: 2 more" in page.text


def test_the_losses_come_from_the_manifest(tmp_path: Path) -> None:
    manifest = Manifest(
        method="fastflow",
        arguments={},
        preprocess=Preprocess(size=(8, 8)),
        calibration=Calibration.from_normal([1.0, 2.0], [1.0, 2.0], [0.5, 0.5]),
        seed=0,
        data=TrainingData(
            category="",
            learned_from=0,
            held_out=2,
            skipped=0,
            images=(),
            group_by="none",
            groups=(),
            fingerprint="0" * 64,
            hashes=("0" * 16,) * 2,
        ),
        history=History(seconds=1.0, losses=({"generator": 2.0}, {"generator": 1.25})),
    )
    evaluator = Evaluator()
    evaluator.update(1.0, 0, "good", np.zeros((8, 8), np.float32), None)
    evaluation = evaluator.compute(2.0)
    page = read(ReportBuilder(manifest).write(tmp_path / "new" / "report.html", evaluation))
    assert "generator, last 1.25" in page.text
    without = manifest.changed(history=History(seconds=1.0))
    page = read(ReportBuilder(without).write(tmp_path / "report.html", evaluation))
    assert "Training losses" not in page.text


def test_a_defective_image_without_mask_says_so(tmp_path: Path) -> None:
    report = replace(make_report(), gallery=[make_item(masked=False)])
    assert "without a true mask" in read(write_report(tmp_path / "report.html", report)).text


def test_the_file_stays_small_whatever_is_put_in(tmp_path: Path) -> None:
    # Noise is the worst case for the encoder.
    gallery = [make_item(f"{index}.png", size=(700, 900)) for index in range(MAX_IMAGES + 6)]
    path = write_report(tmp_path / "report.html", replace(make_report(), gallery=gallery))
    assert path.stat().st_size < 200_000 * MAX_IMAGES
    assert read(path).tags.count("figure") == MAX_IMAGES


def test_a_report_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def fail(self: Path, target: Path) -> Path:
        assert self.stat().st_size > 1000
        assert path.read_text() == "the old one"
        raise OSError("disk gone")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk gone"):
            write_report(path, make_report())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "the old one"
    write_report(path, make_report())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("image_auroc", 1.0, "1.0000"),
        ("images", 56, "56"),
        ("miss_rate", 0.0833, "8.3 %"),
        ("seconds_per_image", 0.0312, "31.2 ms"),
        ("aupro", None, "–"),
        ("aupro", float("nan"), "–"),
    ],
)
def test_numbers_read_well(name: str, value: float | None, expected: str) -> None:
    assert format_metric(name, value) == expected
