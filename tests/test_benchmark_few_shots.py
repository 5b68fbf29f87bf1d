"""The table of few shots: what is measured, and how it is shown."""

from pathlib import Path

import pytest
from benchmarks import few_shots
from benchmarks.tables import Row

from blemish.demo import write_product


def row(method: str, shots: int, number: int, image: float) -> Row:
    values = method, str(shots), str(number), f"{image:.4f}", "0.9", "1", "a machine", "versions"
    return dict(zip(few_shots.COLUMNS, values, strict=True))


def test_a_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shots, "METHODS", {"padim": {"backbone": "compact:random", "dimensions": 4}})
    monkeypatch.setattr(few_shots, "SIZE", (64, 64))
    monkeypatch.setattr(few_shots, "HELD_OUT", 2)
    write_product(tmp_path / "plate", train=5, test_good=2, per_defect=1, size=(96, 128))
    found = few_shots.measure(tmp_path / "plate", "padim", 3, 1, [])
    assert tuple(found) == few_shots.COLUMNS
    assert (found["method"], found["shots"], found["set"]) == ("padim", "3", "1")
    assert 0 <= float(found["image_auroc"]) <= 1


def test_the_table_shows_means_over_the_sets_and_dashes() -> None:
    rows = [row("padim", 2, 0, 0.9), row("padim", 2, 1, 0.8), row("regad", 4, 0, 0.95)]
    lines = few_shots.table(rows).splitlines()
    assert lines[0] == "| image AUROC / pixel AUROC | 2 shots | 4 shots | 8 shots |"
    assert lines[2] == "| `regad` | – | 0.9500 / 0.9000 (1) | – |"
    assert lines[4] == "| `padim` | 0.8500 ± 0.0707 / 0.9000 ± 0.0000 (2) | – | – |"
    assert lines[-1] == "Measured on a machine; versions."
