"""The comparison with anomalib: its own logic with made-up sides, and really where anomalib's python is given."""

import csv
import importlib.util
import json
import os
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PEERS = Path(__file__).parents[1] / "benchmarks" / "peers"
PEER_PYTHON = os.environ.get("BLEMISH_PEER_PYTHON")
DATA, WEIGHTS = os.environ.get("BLEMISH_DATA"), os.environ.get("BLEMISH_WEIGHTS")
SMALL = [
    "--threads=1", "--train-images=4", "--test-images=3", "--sweeps=5", "--bank-size=300",
    "--maps=2", "--all-maps=3", "--map-size=64", "--flow-batch=2", "--steps=2",
]  # fmt: skip
SIMPLENET = os.environ.get("BLEMISH_PEER_SIMPLENET")
VERSIONS = {"anomalib": "2.7.0"}
FIT = {
    "seconds": 100.0, "coreset_seconds": 62.0, "sweep_seconds": 60.0, "sweeps": 10, "sweeps_wanted": 40,
    "last_to_first": 1.01, "patches": 4096, "peak_mib": 900.0, "before_mib": 500.0, "scores": [1.0, 3.0, 2.0],
    "versions": VERSIONS,
}  # fmt: skip


@pytest.fixture
def compare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_peers", PEERS / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_peer(folder: Path, answer: dict[str, Any], status: int = 0) -> Path:
    """An executable that notes each call, answers the same to whatever it is asked, and reads the first map."""
    path = folder / "python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "settings = json.loads(sys.argv[3])\n"
        f"with open({str(folder / 'calls')!r}, 'a') as file:\n"
        "    print(pathlib.Path(sys.argv[1]).name, sys.argv[2], file=file)\n"
        "if 'folder' in settings:\n"
        "    assert len(list(pathlib.Path(settings['folder']).iterdir())) == 2 * settings['maps']\n"
        f"print({json.dumps(answer)!r})\n"
        f"sys.exit({status})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_sweeps_that_were_not_run_are_added(compare: ModuleType) -> None:
    mine = {
        "seconds": 4.0, "peak_mib": 450.0, "before_mib": 300.0, "scores": [1.0, 2.0, 3.0],
        "images": list("abcd"), "versions": {"blemish": "1"},
    }  # fmt: skip
    asked: list[dict[str, Any]] = []

    def peer(row: str, **more: Any) -> dict[str, Any]:
        asked.append({"row": row, **more})
        return FIT

    row = compare.fit_10(lambda *_, **__: mine, peer, {"sweeps": 10})
    assert asked == [{"row": "fit", "coreset_ratio": 0.1, "sweeps": 10, "images": list("abcd")}]
    assert row["anomalib_seconds"] == "280.0000"  # 100 + 60 × (40 / 10 − 1)
    assert (row["seconds_ratio"], row["mib_ratio"]) == ("70.00", "2.00")
    assert "10 of its 40 coreset sweeps were run in 60.0 s" in row["note"]
    assert "a late one taking 1.01 of an early one" in row["note"]
    assert "coreset alone 242.0 s" in row["note"]
    assert "Spearman of both sides' scores of 3 test images 0.500" in row["note"]

    row = compare.fit_1(lambda *_, **__: mine, lambda *_, **__: {**FIT, "sweeps_wanted": 10}, {})
    assert row["anomalib_seconds"] == "100.0000"
    assert "extrapolated" not in row["note"]


def test_metrics_row_is_measured_once_and_kept(
    compare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"seconds": 8.0, "peak_mib": 600.0, "pixel_auroc": 0.5, "aupro": 0.25, "versions": VERSIONS}
    table = tmp_path / "results.csv"
    command = ["metrics", f"--peer-python={fake_peer(tmp_path, answer)}", *SMALL, f"--output={table}"]
    compare.main(command)
    first = table.read_bytes()
    compare.main(command)
    assert table.read_bytes() == first
    assert (tmp_path / "calls").read_text() == "anomalib_side.py metrics\n"
    assert not list(tmp_path.glob("*.part"))
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == compare.COLUMNS
    assert row["settings"] == "threads=1 maps=2 all_maps=3 map_size=64"
    assert (row["anomalib_seconds"], row["anomalib_mib"]) == ("12.0000", "900")  # × 3 maps / 2 maps
    assert float(row["seconds_ratio"]) == pytest.approx(12 / float(row["blemish_seconds"]), rel=0.01)
    assert row["note"].startswith("3 maps; anomalib's figures extrapolated by 3/2 from 2 maps")
    assert row["versions"].startswith("anomalib 2.7.0; blemish ")
    printed = capsys.readouterr().out
    assert printed.count("| metrics | 12.0000 |") == 2
    assert f"Measured on {row['machine']}; {row['versions']}." in printed


def test_rows_with_other_settings_are_other_rows(compare: ModuleType) -> None:
    settings = {
        "threads": 2, "train_images": 209, "test_images": 20, "sweeps": 400, "bank_size": 21400,
        "maps": 20, "all_maps": 500, "map_size": 1024, "flow_batch": 32, "steps": 5,
    }  # fmt: skip
    for row in compare.ROWS:
        assert compare.described(row, settings) != compare.described(row, {**settings, "threads": 1})
    changed = {row for row in compare.ROWS if "sweeps" in compare.described(row, settings)}
    assert changed == {"fit-10"}  # only there are the sweeps cut short


def test_a_side_that_fails_ends_the_run_and_keeps_the_table(compare: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    compare.write_rows(table, compare.COLUMNS, [dict.fromkeys(compare.COLUMNS, "kept")])
    before = table.read_bytes()
    python = fake_peer(tmp_path, {}, status=3)
    with pytest.raises(SystemExit, match=r"anomalib_side\.py ended with status 3 at metrics"):
        compare.main(["metrics", f"--peer-python={python}", *SMALL, f"--output={table}"])
    assert table.read_bytes() == before


def test_wrong_rows_and_absent_data_are_said_before_anything_runs(
    compare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compare.main(["fit-2", "--peer-python=none"])
    assert (
        "there is no row 'fit-2'; choose of fit-1, fit-10, inspect-one, metrics, " in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        compare.main(["metrics", "--peer-python=none", "--maps=1"])
    assert "--maps must be at least 2" in capsys.readouterr().err
    monkeypatch.delenv("BLEMISH_DATA", raising=False)
    with pytest.raises(SystemExit):
        compare.main(["--peer-python=none"])
    expected = (
        "set BLEMISH_DATA; only the rows metrics, fastflow-step, efficientad-step, ganomaly-step go without"
    )
    assert expected in capsys.readouterr().err


def test_simplenet_is_refused_without_its_code(
    compare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("BLEMISH_DATA", "BLEMISH_WEIGHTS"):
        monkeypatch.setenv(variable, "somewhere")
    expected = "simplenet-inspect needs --simplenet, the folder of the official code with simplenet.py in it"
    for given in ([], [f"--simplenet={tmp_path}"]):
        with pytest.raises(SystemExit):
            compare.main(["simplenet-inspect", "--peer-python=none", *given])
        assert expected in capsys.readouterr().err
    assert compare.arguments(["--peer-python=none"]).rows == [
        r for r in compare.ROWS if r != "simplenet-inspect"
    ]
    (tmp_path / "simplenet.py").touch()
    found = compare.arguments(["--peer-python=none", f"--simplenet={tmp_path}"])
    assert found.rows == list(compare.ROWS)


@pytest.mark.skipif(PEER_PYTHON is None, reason="BLEMISH_PEER_PYTHON does not name anomalib's python")
@pytest.mark.skipif(not (DATA and WEIGHTS), reason="BLEMISH_DATA or BLEMISH_WEIGHTS is not set")
@pytest.mark.parametrize(
    "name",
    [
        "fit-1", "fit-10", "inspect-one", "metrics", "fastflow-step", "fastflow-epoch", "fastflow-inspect",
        "efficientad-step", "ganomaly-step",
    ],
)  # fmt: skip
def test_row_is_measured_beside_the_real_peer(compare: ModuleType, tmp_path: Path, name: str) -> None:
    table = tmp_path / "results.csv"
    compare.main([name, f"--peer-python={PEER_PYTHON}", *SMALL, f"--output={table}"])
    (row,) = compare.read_rows(table)
    assert row["row"] == name
    assert float(row["anomalib_seconds"]) > 0
    assert float(row["blemish_seconds"]) > 0
    assert "anomalib 2.7.0" in row["versions"]
    if name == "metrics":
        theirs, mine = row["note"].split("AUPRO ")[1].split(";")[0].split(" and ")
        assert float(theirs) == pytest.approx(float(mine), abs=1e-5)
    elif name in ("fit-1", "fit-10", "inspect-one"):
        assert "scores of 3 test images" in row["note"]
    else:
        assert "median of 3 images" in row["note"] or " → " in row["note"]


@pytest.mark.skipif(PEER_PYTHON is None, reason="BLEMISH_PEER_PYTHON does not name anomalib's python")
@pytest.mark.skipif(not (DATA and WEIGHTS), reason="BLEMISH_DATA or BLEMISH_WEIGHTS is not set")
@pytest.mark.skipif(SIMPLENET is None, reason="BLEMISH_PEER_SIMPLENET does not name a checkout of SimpleNet")
def test_simplenet_is_measured_beside_its_official_code(compare: ModuleType, tmp_path: Path) -> None:
    given = [
        f"--peer-python={PEER_PYTHON}",
        f"--simplenet={SIMPLENET}",
        f"--output={tmp_path / 'results.csv'}",
    ]
    compare.main(["simplenet-inspect", *given, *SMALL])
    (row,) = compare.read_rows(tmp_path / "results.csv")
    assert float(row["anomalib_seconds"]) > 0
    assert "median of 3 images" in row["note"]
    assert row["versions"].startswith("SimpleNet ")
