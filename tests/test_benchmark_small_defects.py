"""The table of painted defects: what is painted, and a tiny run of it."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import small_defects

from blemish.data.images import read_image


@pytest.mark.parametrize("spot", small_defects.SPOTS)
@pytest.mark.parametrize("grey", [20, 200])
def test_a_spot_has_its_diameter_and_its_contrast(spot: int, grey: int) -> None:
    image = np.full((240, 320, 3), grey, np.uint8)
    found = small_defects.painted(image, spot, np.random.default_rng(0)).astype(int) - grey
    expected = 70 if grey == 20 else -70
    assert set(np.unique(found)) <= set(range(min(0, expected), max(0, expected) + 1))
    rows, columns = (found[:, :, 0] != 0).any(1).sum(), (found[:, :, 0] != 0).any(0).sum()
    assert spot <= rows <= spot + 2
    assert spot <= columns <= spot + 2
    assert found[:, :, 0].sum() / expected == pytest.approx(np.pi * spot**2 / 4, rel=0.02)


def test_every_input_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SIZE": (96, 128),
        "LEARNED": 4,
        "TESTED": 2,
        "INPUTS": {"64²": 64**2, "native": 0},
    }.items():
        monkeypatch.setattr(small_defects, name, value)
    small_defects.draw(tmp_path, (96, 128))
    good, spotted = (read_image(tmp_path / f"test/{kind}/004.png") for kind in ("good", "20"))
    assert 300 < (good != spotted).any(2).sum() < 420
    rows = [small_defects.measure(name, tmp_path) for name in ("64²", "native")]
    assert [row["size"] for row in rows] == ["64 × 64", "96 × 128"]
    assert [row["cell"] for row in rows] == ["12.0 × 16.0", "8.0 × 8.0"]
    assert [row["smallest"] for row in rows] == ["24", "12"]
    assert set(rows[0]) == set(small_defects.COLUMNS)
    assert all(int(row[f"missed_{spot}"]) <= 2 for row in rows for spot in small_defects.SPOTS)
    lines = small_defects.table(rows).splitlines()
    assert lines[0].startswith(
        "| `--pixels` | input | one cell covers | seen from about | missed of 2: 10 px, 20 px, 40 px |"
    )
    assert lines[3].startswith("| native | 96 × 128 | 8.0 × 8.0 px | 12 px | ")
