"""What Python prints of the objects a user holds: short, whatever they hold; and what a notebook shows of numbers."""

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish import plugins
from blemish.data.dataset import Dataset, open_dataset
from blemish.data.images import write_image
from blemish.messages import columns
from blemish.metrics.evaluation import Evaluation
from blemish.model import Model
from blemish.types import Sample
from tiny_product import SMALL, Average, defect_place, draw_part


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A tiny product in the layout of MVTec AD, with forty training images and two types of defects."""
    monkeypatch.setattr(plugins, "_registered", {"average": Average})
    root = tmp_path / "plate"
    for index in range(40):
        write(root / "train" / "good" / f"{index}.png", draw_part(index))
    mask = np.zeros((48, 60), bool)
    mask[defect_place((48, 60))] = True
    for index in range(3):
        write(root / "test" / "good" / f"{index}.png", draw_part(100 + index))
        for kind in ("dent", "<b>scratch</b>".replace("/", "-")):
            write(root / "test" / kind / f"{index}.png", draw_part(200 + index, defect=1.0))
            write(root / "ground_truth" / kind / f"{index}_mask.png", mask)
    return open_dataset(root)


def write(path: Path, pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.bool_]]") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, pixels)  # type: ignore[arg-type]


@pytest.fixture
def model(dataset: Dataset) -> Model:
    return blemish.fit(Average(), dataset.train, preprocess=SMALL, hold_out_share=0.5)


def is_short(text: str) -> bool:
    return len(text) < 800 and len(text.splitlines()) <= 10


def test_reprs_are_short(dataset: Dataset, model: Model) -> None:
    evaluation = blemish.evaluate(model, dataset.test)
    inspection = model.inspect(dataset.test[0].path)
    for value in (dataset, model, model.manifest, model.calibration, evaluation, inspection):
        assert is_short(repr(value)), repr(value)
        assert repr(value).startswith(f"{type(value).__name__}(")
        assert repr(value).endswith(")")


def test_a_dataset_says_what_is_in_it(dataset: Dataset) -> None:
    assert repr(dataset) == (
        f"Dataset({str(dataset.root)!r}, layout mvtec\n"
        "  categories: plate\n"
        "  train: 40 good\n"
        "  test: 3 <b>scratch<-b>, 3 dent, 3 good\n"
        "  masks: 6 of 6 anomalous test images)"
    )


def test_a_large_dataset_is_described_as_shortly() -> None:
    samples = [
        Sample(Path(f"{index}.png"), 1, "test", f"defect number {index}", None, f"category {index}")
        for index in range(2000)
    ]
    large = Dataset(Path("root"), "csv", tuple(samples))
    assert is_short(repr(large))
    assert "categories: category 0, category 1, " in repr(large)
    assert " … (2000 in all)\n" in repr(large)
    assert "\n  train: none\n" in repr(large)


def test_a_model_says_what_it_learned_and_its_thresholds(model: Model) -> None:
    calibration = model.calibration
    assert repr(calibration) == (
        f"Calibration(images=20, false_alarm_rate=0.01, image_threshold={calibration.image_threshold:.6g}, "
        f"pixel_threshold={calibration.pixel_threshold:.6g})"
    )
    assert repr(model).splitlines() == [
        "Model(runtime='torch', Manifest(method='average', category='plate', learned_from=20, seed=0,",
        "  arguments={'gain': 1.0},",
        f"  {SMALL!r},",
        f"  {calibration!r}))",
    ]


def test_a_hostile_manifest_is_printed_shortly(model: Model) -> None:
    long = "x" * 10000
    hostile = model.manifest.changed(arguments={"a": long}, data=model.manifest.data.changed(category=long))
    assert is_short(repr(hostile))


def test_numbers_and_table_are_printed_together(dataset: Dataset, model: Model) -> None:
    evaluation = blemish.evaluate(model, dataset.test)
    numbers, table, *notes = str(evaluation).split("\n\n")
    assert numbers.splitlines()[:2] == [
        "images            9 (3 normal, 6 anomalous)",
        f"image_auroc       {evaluation.image_auroc:.4f}",
    ]
    assert table == evaluation.table()
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["<b>scratch<-b>", "dent"]
    assert notes[-1].endswith(" s per image, without reading the file")
    assert repr(evaluation).startswith(f"Evaluation(images=9, image_auroc={evaluation.image_auroc:.4f}, ")
    good = blemish.evaluate(model, [sample for sample in dataset.test if not sample.label])
    assert good.table() == ""
    assert "defect type" not in str(good)


def test_defect_types_of_wide_characters_are_aligned(dataset: Dataset, model: Model) -> None:
    kinds = {"dent": "划痕", "good": "good"}
    samples = [
        replace(sample, defect_type=kinds.get(sample.defect_type, "scratch")) for sample in dataset.test
    ]
    rows = blemish.evaluate(model, samples).table().splitlines()
    assert len({columns(row) for row in rows}) == 1


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows]


def test_a_notebook_shows_the_numbers_as_tables(dataset: Dataset, model: Model) -> None:
    evaluation = blemish.evaluate(model, dataset.test)
    text = evaluation._repr_html_()
    assert "<b>" not in text
    rows = {row[0]: row[1:] for row in cells(text)}
    assert rows["images"] == ["9 (3 normal, 6 anomalous)"]
    assert rows["miss_rate"] == [f"{evaluation.miss_rate:.4f}"]
    dent = evaluation.by_type["dent"]
    assert rows["dent"] == [
        "3",
        *(f"{dent[key]:.4f}" for key in ("image_auroc", "pixel_auroc", "aupro", "miss_rate")),
    ]


def test_a_notebook_shows_the_report_where_there_is_one(
    dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    evaluation = blemish.evaluate(model, dataset.test, report=tmp_path / "out" / "report.html")
    assert evaluation.report == tmp_path / "out" / "report.html"
    embedded = re.fullmatch(
        r'<iframe sandbox srcdoc="([^"]*)" style="[^"]*"></iframe>', evaluation._repr_html_()
    )
    assert embedded is not None
    assert html.unescape(embedded[1]) == evaluation.report.read_text("utf-8")
    evaluation.report.unlink()
    assert cells(evaluation._repr_html_())[0] == ["images", "9 (3 normal, 6 anomalous)"]


def test_an_evaluation_without_pixel_numbers_is_short_too(dataset: Dataset, model: Model) -> None:
    plain = [replace(sample, mask_path=None) for sample in dataset.test]
    evaluation: Evaluation = blemish.evaluate(model, plain)
    assert "pixel_auroc" not in repr(evaluation)
    reason = "– 6 of 6 anomalous images have no mask"
    assert ["pixel_auroc", reason] in cells(evaluation._repr_html_())
