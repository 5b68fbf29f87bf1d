"""`import blemish` costs nothing, and every public name is there and says what it is."""

import ast
import inspect
import subprocess
import sys
import time
from pathlib import Path

import pytest

import blemish
from blemish import methods
from blemish.methods import CATALOGUE

HEAVY = ("torch", "numpy", "scipy", "cv2", "rich", "jinja2", "PIL", "pydantic")
PUBLIC = [name for name in blemish.__all__ if name != "__version__"]


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def seconds_of(*arguments: str) -> float:
    """The shortest of three runs."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    return min(times)


def test_import_is_light() -> None:
    code = f"import blemish, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_help_is_light() -> None:
    code = (
        "import sys; from blemish.cli.main import blemish\n"
        "blemish(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"


def test_help_takes_at_most_ten_times_as_long_as_importing_numpy() -> None:
    assert seconds_of("-m", "blemish", "--help") <= 10 * seconds_of("-c", "import numpy")


@pytest.mark.parametrize(
    "module",
    [
        "blemish.data.dataset",
        "blemish.inspection.result",
        "blemish.model",
        "blemish.workflow.fit",
        "blemish.workflow.evaluate",
        "blemish.workflow.update",
        "blemish.reports",
        "blemish.plugins",
    ],
)
def test_speaks_numpy_without_torch(module: str) -> None:
    """An inspection computer may do without torch."""
    assert run_python(f"import {module}, sys; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(blemish, name)
    doc = inspect.getdoc(value)
    assert doc
    assert not doc.startswith(f"{name}(")  # what dataclasses write when nobody did


def test_names_for_type_checkers_are_the_names_of_the_running_program() -> None:
    typed: dict[str | None, str] = {}
    for file in (Path(blemish.__file__), Path(methods.__file__)):
        tree = ast.parse(file.read_text("utf-8"))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        for node in block.body:
            if isinstance(node, ast.ImportFrom) and node.names[0].name != "*":
                typed |= {alias.asname: f"{node.module}.{alias.name}" for alias in node.names}
    assert typed == {name: f"{module}.{name}" for name, module in blemish._HOMES.items()}


def test_every_method_of_the_catalogue_is_public() -> None:
    assert {target.partition(":")[2] for target in CATALOGUE.values()} <= set(PUBLIC)


def test_names() -> None:
    assert dir(blemish) == sorted(blemish.__all__)
    assert blemish.__version__[0].isdigit()
    with pytest.raises(AttributeError, match=r"^module 'blemish' has no attribute 'fitt'$"):
        _ = blemish.fitt  # type: ignore[attr-defined]
