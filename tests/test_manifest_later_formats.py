"""Folders of formats 2 and 3, made here from those of today: read with the same scores, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.errors import ModelError
from blemish.manifest import FILE, FORMAT, read_manifest
from blemish.manifest_upgrade import CHANGED, upgrade_manifest
from tiny_product import draw_part, normal_samples

Json = dict[str, Any]


def change(folder: Path, edit: Callable[[Json], Any]) -> None:
    values = json.loads((folder / FILE).read_text("utf-8"))
    edit(values)
    (folder / FILE).write_text(json.dumps(values), "utf-8")


@pytest.fixture
def format_2(tmp_path: Path) -> Path:
    """A model as it was written before folders said what the model sees."""
    folder = blemish.fit("pca", normal_samples(tmp_path / "good", 6)).save(tmp_path / "m")
    change(folder, lambda values: values.update(format=2) or values.pop("resolution"))
    return folder


def test_a_folder_of_format_2_is_read_and_written_in_the_newest(format_2: Path, tmp_path: Path) -> None:
    manifest = read_manifest(format_2)
    assert (manifest.format, manifest.resolution) == (2, None)
    assert "resolution" not in manifest.describe()
    assert read_manifest(blemish.load(format_2).save(tmp_path / "again")).format == FORMAT
    assert blemish.recalibrate(format_2, image=3.0).format == read_manifest(format_2).format == FORMAT


def test_a_folder_of_format_2_needs_every_other_entry_and_argument(format_2: Path) -> None:
    change(format_2, lambda values: values["arguments"].pop("components"))
    with pytest.raises(ModelError, match="lacks the arguments components of pca"):
        blemish.load(format_2)
    change(format_2, lambda values: values.pop("seed"))
    with pytest.raises(ModelError, match=r"is damaged: seed is missing\."):
        read_manifest(format_2)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("method", CHANGED)
def test_a_method_whose_network_has_changed_is_refused(number: int, method: str) -> None:
    text = f"^The model was written in format {number}; since then the networks of {method} have changed"
    with pytest.raises(ModelError, match=text):
        upgrade_manifest(json.dumps({"format": number, "method": method}))


def test_an_argument_that_was_added_since_has_its_former_value(tmp_path: Path) -> None:
    method = blemish.PaDiM(backbone="compact:random", dimensions=8)
    folder = blemish.fit(method, normal_samples(tmp_path / "good", 6)).save(tmp_path / "m")
    expected = blemish.load(folder).inspect(draw_part(50)).score
    change(folder, lambda values: values.update(format=3) or values["arguments"].pop("absolute_ridge"))
    assert blemish.load(folder).inspect(draw_part(50)).score == expected
    change(folder, lambda values: values.update(format=6))
    with pytest.raises(ModelError, match="lacks the arguments absolute_ridge of padim"):
        blemish.load(folder)
