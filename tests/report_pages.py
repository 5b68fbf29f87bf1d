"""Shared by the tests of reports: the content of one, and the tags and texts of a written one."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from blemish.reports import GalleryItem, ReportData
from blemish.types import Verdict


def make_item(
    name: str = "test/dent/000.png",
    *,
    defect_type: str = "dent",
    label: int = 1,
    score: float = 3.0,
    verdict: Verdict = "NG",
    size: tuple[int, int] = (60, 80),
    masked: bool = True,
) -> GalleryItem:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.bool_)
    mask[10:20, 10:30] = True
    return GalleryItem(
        name, defect_type, label, score, verdict, image, image.copy(), mask if masked else None, mask
    )


def make_report() -> ReportData:
    return ReportData(
        title="Plate",
        method="patchcore",
        category="plate",
        date="2025-03-14",
        arguments={"coreset_ratio": 0.01, "layers": ("stage2", "stage3")},
        dataset={"training images": 60},
        metrics={"images": 6, "image_auroc": 0.98765, "aupro": None, "false_alarm_rate": 0.25},
        reasons={"aupro": "3 of 3 anomalous images have no mask"},
        by_type={"dent": {"images": 3, "image_auroc": 0.9, "aupro": None, "miss_rate": 1 / 3}},
        scores=np.array([1.0, 1.2, 2.5, 1.4, 3.0, 4.0]),
        labels=np.array([0, 0, 0, 1, 1, 1]),
        threshold=2.0,
        roc=(np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.9, 1.0])),
        pro=(np.array([0.0, 0.1, 0.3]), np.array([0.0, 0.8, 0.9])),
        calibration_text="Thresholds rest on 6 held-out normal images.",
        losses=[],
        gallery=[
            make_item("test/good/7.png", defect_type="good", label=0, score=2.5, masked=False),
            make_item("test/dent/4.png", score=1.4, verdict="OK"),
            make_item("test/dent/5.png"),
        ],
        environment={"blemish": "0.1.0"},
    )


class Reader(HTMLParser):
    """Collects tags, attributes and text of a page; fails on tags that are not closed in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader
