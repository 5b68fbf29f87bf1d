"""The images of a report: their panels, and every error by image or by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.reports import GalleryPicker, write_report
from blemish.reports.gallery import ImageArrays
from report_pages import make_item, make_report, read


def test_only_what_there_is_has_a_panel(tmp_path: Path) -> None:
    zoom = np.zeros((50, 60, 3), np.uint8)
    plain, full = make_item(masked=False), replace(make_item(), zoom=zoom, reason="a reason")
    for item, panels in ((plain, 2), (replace(plain, zoom=zoom), 3), (full, 4)):
        found = read(write_report(tmp_path / "report.html", replace(make_report(), gallery=[item])))
        images = [value for name, value in found.attributes if name == "src"]
        assert len(images) == 1 + panels, "and the colour bar"
    assert "NG: a reason." in found.text


def test_every_miss_and_false_alarm_is_shown(tmp_path: Path) -> None:
    picker = GalleryPicker(misses=2, false_alarms=1, detections=0)
    arrays = ImageArrays(
        np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.float32), np.zeros((6, 8), bool), None
    )
    for index in range(5):
        picker.offer(f"miss{index}.png", "dent", 1, index / 10, "OK", lambda: arrays)
        picker.offer(f"alarm{index}.png", "good", 0, 5 + index, "NG", lambda: arrays)
    report = replace(make_report(), gallery=picker.items(), without_image=picker.others())
    found = read(write_report(tmp_path / "report.html", report))
    assert found.tags.count("figure") == 3
    assert all(f"{kind}{index}.png" in found.text for kind in ("miss", "alarm") for index in range(5))
    assert "3 more without images" in found.text
    assert found.text.index("miss1.png") < found.text.index("miss2.png · dent · score 0.2")
