"""What a user's type checker knows of blemish."""

import re
from pathlib import Path

import pytest
from mypy import api

import blemish

PACKAGE = Path(blemish.__file__).parent

USER_FILE = """
from pathlib import Path

import blemish

data = blemish.open_dataset("bottle/")
with blemish.progress_bars() as progress:
    model = blemish.fit("patchcore", data.train, arguments={"coreset_ratio": 0.1}, progress=progress)
reveal_type(data.train[0])
reveal_type(model)
reveal_type(blemish.load("x", device="auto"))
reveal_type(model.inspect("a.png"))
reveal_type(next(model.inspect_many([Path("a"), "b"])))
reveal_type(model.inspect("a.png").regions[0].area)
reveal_type(model.calibration.image_threshold)
reveal_type(blemish.evaluate(model, data.test))
reveal_type(blemish.create_method("padim"))
reveal_type(blemish.PatchCore(coreset_ratio=0.1))
"""
REVEALED = [
    "blemish.types.Sample",
    "blemish.model.Model",
    "blemish.model.Model",
    "blemish.inspection.result.Inspection",
    "blemish.inspection.result.Inspection | blemish.inspection.result.Unreadable",
    "int",
    "float",
    "blemish.metrics.evaluation.Evaluation",
    "blemish.methods.base.Method",
    "blemish.methods.patchcore.PatchCore",
]


def run_mypy(file: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What `mypy --strict` says of a file outside of this project."""
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy")  # checking torch anew takes half a minute
    monkeypatch.setenv("MYPYPATH", str(PACKAGE.parent))
    monkeypatch.chdir(file.parent)
    said, errors, status = api.run(["--strict", "--config-file=", f"--cache-dir={cache}", file.name])
    assert errors == ""
    return said, status


def test_a_users_file_is_checked_strictly(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user.py").write_text(USER_FILE)
    said, status = run_mypy(tmp_path / "user.py", pytestconfig, monkeypatch)
    assert status == 0, said
    assert re.findall(r'Revealed type is "(.*)"', said) == REVEALED
    (tmp_path / "wrong.py").write_text("import blemish\n\nblemish.fit(3, [])\nblemish.fitt\n")
    said, status = run_mypy(tmp_path / "wrong.py", pytestconfig, monkeypatch)
    assert status == 1
    assert 'Argument 1 to "fit" has incompatible type "int"; expected "str | Method"' in said
    assert 'Module has no attribute "fitt"' in said


def test_the_package_says_that_it_is_typed() -> None:
    """Without this file type checkers take an installed package for untyped."""
    assert (PACKAGE / "py.typed").is_file()
