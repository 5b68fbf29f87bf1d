"""The tables of measured rows, and each row of benchmarks/speed.py at a size of seconds."""

from pathlib import Path

import pytest
import torch
from benchmarks import reconstruction_rows, speed, tables
from torch import Tensor

from blemish.demo import write_product
from blemish.methods import CATALOGUE
from blemish.methods.reconstruction import Reconstruction
from blemish.plugins import find_method, name_of


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small product in place of bottle, random weights in place of pretrained ones."""
    folder = write_product(tmp_path / "plate", train=8, test_good=1, per_defect=1, seed=0)
    product_grids = speed.grids_of
    monkeypatch.setattr(speed, "product", lambda _: str(folder))
    monkeypatch.setattr(speed, "grids_of", lambda _, samples: product_grids("compact:random", samples))
    monkeypatch.setattr(speed, "BACKBONE", "compact:random")
    monkeypatch.setattr(speed, "LARGE", ("compact:random", 6, 96))
    for name, few in {"STEPS": 1, "WARM_UP": 1, "IMAGES": 3}.items():
        monkeypatch.setattr(reconstruction_rows, name, few)
    monkeypatch.setenv("BLEMISH_DATA", str(tmp_path))
    monkeypatch.setattr(reconstruction_rows, "PRODUCT", "plate")
    monkeypatch.setattr(reconstruction_rows, "REPAIR", {"size": 32, "width": 4, "blocks": 1, "epochs": 1})
    quick = {name: reconstruction_rows.METHODS[name] for name in ("ganomaly", "f_anogan")}
    monkeypatch.setattr(reconstruction_rows, "METHODS", quick)


@pytest.mark.parametrize("name", list(speed.ROWS))
def test_every_row_is_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours, compared, ratio, target, note = speed.ROWS[name]()
    assert all((ours, compared, target, note))
    assert float(ratio) > -5
    capsys.readouterr()


def test_every_method_that_reconstructs_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    made = {type(make(epochs=1)) for make in reconstruction_rows.METHODS.values()}
    classes = {find_method(name) for name in CATALOGUE}
    assert made == {cls for cls in classes if issubclass(cls, Reconstruction)}
    assert {name_of(cls) for cls in made} == set(reconstruction_rows.METHODS)


def test_covering_radius_is_that_of_brute_force() -> None:
    patches: Tensor = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    expected = float(torch.cdist(patches, patches[:20]).amin(1).max())
    assert speed.covering_radius(patches, patches[:20]) == pytest.approx(expected, rel=1e-5)


def test_pages_are_filled_between_their_markers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("a\n<!-- t -->\nold\n<!-- /t -->\nb\n<!-- t:x -->\n<!-- /t -->\n", "utf-8")
    tables.fill_pages("t", lambda name: f"new {name}")
    filled = "a\n<!-- t -->\n\nnew None\n\n<!-- /t -->\nb\n<!-- t:x -->\n\nnew x\n\n<!-- /t -->\n"
    assert page.read_text("utf-8") == filled


def test_the_main_table_has_six_of_all_rows() -> None:
    rows = [dict.fromkeys((*speed.COLUMNS, "machine", "versions"), "") | {"row": name} for name in speed.ROWS]

    def names(which: str | None) -> list[str]:
        return [line.split("`")[1] for line in speed.table(rows, which).splitlines() if "`" in line]

    assert names(None) == list(speed.ROWS)
    assert names("main") == [name for name in speed.ROWS if name in speed.MAIN_ROWS]
    assert len(names("main")) == 6


def test_rows_come_back_from_the_file(tmp_path: Path) -> None:
    rows = [{"row": "a", "note": "x, y"}, {"row": "b", "note": ""}]
    assert tables.read_rows(tmp_path / "t.csv") == []
    tables.write_rows(tmp_path / "t.csv", ("row", "note"), rows)
    assert tables.read_rows(tmp_path / "t.csv") == rows
    assert [path.name for path in tmp_path.glob("t.*")] == ["t.csv"]
