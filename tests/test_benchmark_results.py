"""The results table: a tiny run of it, what it shows of several seeds, and that nothing is measured twice."""

from pathlib import Path

import pytest
from benchmarks import results
from benchmarks.results import Run, cell, figure, is_short, main

from blemish.demo import write_product


def test_one_number_is_shown_as_measured_and_several_by_mean_and_deviation() -> None:
    assert figure(["0.9876"]) == "0.9876"
    assert figure(["0.9", "0.92", "0.94"]) == "0.9200 ± 0.0200"
    assert figure(["0.9", ""]) == "–"
    row = {"image_auroc": "1.0000", "pixel_auroc": "0.9", "aupro": ""}
    assert cell([]) == "–"
    assert cell([row]) == "1.0000 / 0.9000 / –"
    assert cell([row, row]).endswith("0.9000 ± 0.0000 / – (2 seeds)")


def test_rows_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_product(tmp_path / "data/plate", train=4, test_good=2, per_defect=1, seed=0)
    monkeypatch.setenv("BLEMISH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(results, "TABLE", tmp_path / "results.csv")
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    monkeypatch.setattr(results, "DATA", {"plate": "plate"})
    monkeypatch.setattr(
        results,
        "RUNS",
        (Run("variation", size="--image-size 32", data=("plate",)), Run("pca", data=("plate",), size="")),
    )
    monkeypatch.setattr(results, "fill_pages", lambda marker, text: pages.append(text(None)))
    pages: list[str] = []
    main(["variation"])
    written = (tmp_path / "results.csv").read_text(encoding="utf-8")
    assert [line.split(",")[:4] for line in written.splitlines()[1:]] == [
        ["variation", "--image-size 32", "plate", "0"],
    ]
    monkeypatch.setattr(results, "measure", lambda *_: pytest.fail("measured again"))
    main(["variation"])
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == written
    assert "| `pca` | – |" in pages[-1]


def test_a_table_shows_all_runs_or_the_first_or_those_of_a_method() -> None:
    def commands(which: str | None) -> list[str]:
        return [line.split("`")[1] for line in results.table([], which).splitlines()[2:] if line]

    every = commands(None)
    assert len(every) == len(results.RUNS) > 6
    assert commands("6") == every[:6]
    assert commands("padim") == [command for command in every if command.split()[0] == "padim"] != []


def test_the_table_of_a_data_set_shows_what_models_cost() -> None:
    row = {"method": "padim", "options": "--image-size 256", "data": "bottle", "seed": "0"}
    row |= {"image_auroc": "0.9", "pixel_auroc": "0.8", "aupro": "0.7", "machine": "m", "versions": "v"}
    costs = {"fit_seconds": "61.25", "image_seconds": "0.1234", "model_megabytes": "45.6"}
    lines = results.table([row | costs], "bottle").splitlines()
    assert "| `padim --image-size 256` | 0.9000 | 0.8000 | 0.7000 | 61.2 | 0.123 | 45.6 |" in lines
    assert sum("– | – | – |" in line for line in lines) > 20, "runs that were not measured"
    assert results.median(["3", "", "1", "2"]) == "2"


def test_more_seeds_follow_short_fits_only() -> None:
    run = Run("pca", seeds=3, size="")
    row = {"method": "pca", "options": "", "data": "plate", "seed": "0", "fit_seconds": "300.0"}
    assert is_short([row], run, "plate")
    assert not is_short([{**row, "fit_seconds": "300.1"}], run, "plate")
    assert is_short(
        [{**row, "fit_seconds": "999", "data": "other"}, {**row, "fit_seconds": ""}], run, "plate"
    )
