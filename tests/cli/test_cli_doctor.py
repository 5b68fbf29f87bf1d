"""`blemish doctor`: facts, problems with remedies, exit code."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import blemish
from blemish.cli import doctor

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights, and no other variable of blemish."""
    for name in [name for name in os.environ if name.startswith("BLEMISH_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "compact.safetensors").touch()
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(folder))
    return folder


def problems(result: Result) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith("Problem: ")]


def test_facts(run: Run, weights: Path) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = {line[:20].rstrip(): line[21:] for line in reversed(result.stdout.splitlines())}
    assert facts["blemish"] == f"{blemish.__version__} in {Path(blemish.__file__).parent}"
    assert facts["weights"] == f"{weights}: compact.safetensors"
    assert facts["BLEMISH_WEIGHTS"] == str(weights)
    assert facts["devices"].startswith("cpu")
    assert f"numpy {doctor.version_of('numpy')}" in facts["needs"]
    assert facts["extra train"] == f"numba {doctor.version_of('numba')}, torch {doctor.version_of('torch')}"


def test_variables_that_are_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_WEIGHT", "x")
    monkeypatch.setenv("BLEMISH_WEIGHTS", "nowhere")
    monkeypatch.setenv("BLEMISH_MAX_PIXELS", "1e9")
    result = run("doctor")
    assert result.exit_code == 0
    assert problems(result)[:3] == [
        "Problem: BLEMISH_WEIGHT is not a variable of blemish. Did you mean BLEMISH_WEIGHTS?",
        "Problem: BLEMISH_WEIGHTS is nowhere, which is not a folder. Set it to the folder of the weight files.",
        "Problem: BLEMISH_MAX_PIXELS is '1e9'. Set it to a whole number of pixels above 0, or unset it.",
    ]


def test_absent_packages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "onnxscript" else real(name))
    result = run("doctor")
    assert result.exit_code == 0
    assert problems(result) == [
        "Problem: onnxscript not installed: models cannot be exported to ONNX. Run: pip install 'blemish[export]'"
    ]

    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "numpy" else real(name))
    result = run("doctor")
    assert result.exit_code == 1
    assert problems(result)[0] == "Problem: numpy not installed. Run: pip install --force-reinstall blemish"


def test_no_problems(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda _: "1.0")
    assert run("doctor").stdout.endswith("\n\nNo problems found.\n")
