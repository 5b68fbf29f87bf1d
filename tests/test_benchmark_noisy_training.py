"""The table of noisy training images: which images are drawn, a tiny run of it, and what it shows."""

from pathlib import Path

import pytest
from benchmarks import noisy_training
from benchmarks.tables import read_rows

import blemish
from blemish.demo import write_product


def test_a_tenth_of_the_noisy_training_images_is_defective_and_not_tested(tmp_path: Path) -> None:
    data = blemish.open_dataset(
        write_product(tmp_path / "plate", train=18, test_good=2, per_defect=3, size=(96, 128))
    )
    drawn = [noisy_training.drawn(data.train, data.test, seed) for seed in range(6)]
    originals = {sample.path: sample for sample in data.test}
    for noise, tested in drawn:
        assert len(noise) == 2  # of 20
        assert all(sample.label == 0 and originals[sample.path].label == 1 for sample in noise)
        assert {sample.path for sample in noise}.isdisjoint(sample.path for sample in tested)
        assert {sample.path for sample in [*noise, *tested]} == originals.keys()
        assert all(sample.label == originals[sample.path].label for sample in tested)
    assert len({tuple(sample.path for sample in noise) for noise, _ in drawn}) > 1
    assert drawn[3] == noisy_training.drawn(data.train, data.test, 3)


def test_rows_are_measured_once_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_product(tmp_path / "data/plate", train=9, test_good=2, per_defect=1, size=(96, 128))
    monkeypatch.setenv("BLEMISH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path))
    pages: list[str] = []
    for name, value in {
        "TABLE": tmp_path / "rows.csv",
        "DATA": {"plate": "plate"},
        "SEEDS": (0,),
        "ARGUMENTS": {"backbone": "compact:random"},
        "SIZE": (48, 64),
        "fill_pages": lambda marker, text: pages.append(text(None)),
    }.items():
        monkeypatch.setattr(noisy_training, name, value)
    noisy_training.main([])
    rows = read_rows(tmp_path / "rows.csv")
    assert [(row["method"], row["training"], row["learned"], row["defective"]) for row in rows] == [
        ("softpatch", "clean", "9", "0"),
        ("softpatch", "noisy", "10", "1"),
        ("patchcore", "clean", "9", "0"),
        ("patchcore", "noisy", "10", "1"),
    ]
    monkeypatch.setattr(noisy_training, "measure", lambda *_: pytest.fail("measured again"))
    noisy_training.main(["plate"])
    assert pages[0] == pages[1]
    assert "| plate | `patchcore` | 1 of 10 | " in pages[0]


def test_the_loss_is_the_difference_of_the_means() -> None:
    values = {
        ("clean", "0"): "0.9900",
        ("clean", "1"): "0.9700",
        ("noisy", "0"): "0.9600",
        ("noisy", "1"): "0.9500",
        ("clean", "2"): "0.1000",  # its noisy training is not measured yet
    }
    rows = [
        {"data": "bottle", "method": "softpatch", "training": training, "seed": seed, "image_auroc": auroc,
         "learned": "20", "defective": "2", "machine": "m", "versions": "v"}
        for (training, seed), auroc in values.items()
    ]  # fmt: skip
    line = noisy_training.table(rows).splitlines()[2]
    assert line == (
        "| bottle | `softpatch` | 2 of 20 | 0.9800 ± 0.0141 (2 seeds) | 0.9550 ± 0.0071 (2 seeds) | 0.0250 |"
    )
