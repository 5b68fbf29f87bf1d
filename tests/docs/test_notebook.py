"""The notebook runs, shows images, and is stored without outputs."""

import base64
import html
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from blemish.demo import write_product
from markdown_text import ROOT

NOTEBOOK = ROOT / "examples" / "first_model.ipynb"


def read_notebook(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = read_notebook(NOTEBOOK)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert NOTEBOOK.stat().st_size < 5000
    assert 'folder = "../demo/plate"' in code[0].source


def image_sizes(cell: Any) -> list[tuple[int, int]]:
    """(H, W) of each image in a cell's HTML, decoded."""
    text = "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)
    uris = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", html.unescape(text))
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR) for uri in uris]
    return [image.shape[:2] for image in decoded if image is not None]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The executed code cells, by their ids."""
    root = tmp_path_factory.mktemp("notebook")
    write_product(root / "demo" / "plate", train=5, test_good=2, per_defect=1, size=(96, 128))
    (root / "examples").mkdir()
    notebook = read_notebook(Path(shutil.copy(NOTEBOOK, root / "examples")))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(root / "examples")}}).execute()
    assert (root / "demo" / "first_model.blemish" / "manifest.json").is_file()
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def test_the_data_set_and_the_summary_are_shown_as_text(cells: dict[str, Any]) -> None:
    assert cells["data"].outputs[-1].data["text/plain"].startswith("Dataset('../demo/plate', layout mvtec\n")
    assert "Learned from 5 images in " in cells["fit"].outputs[-1].text


def test_an_inspection_is_shown_as_its_image_and_its_heat_map(cells: dict[str, Any]) -> None:
    assert image_sizes(cells["inspect"]) == [(96, 128), (96, 128)]


def test_an_evaluation_is_shown_with_the_images_of_its_report(cells: dict[str, Any]) -> None:
    assert image_sizes(cells["evaluate"]).count((96, 128)) >= 3
    (output,) = cells["evaluate"].outputs
    assert output.data["text/plain"].startswith("Evaluation(images=")
    assert "Image AUROC" in output.data["text/html"]
