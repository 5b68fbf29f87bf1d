"""Models whose files are missing or whose manifest is damaged or malicious: each gives one clear error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish import plugins
from blemish.errors import MethodError, ModelError
from blemish.manifest import FILE, WEIGHTS, read_manifest
from model_folder import Json, stored, tamper


def test_a_flipped_bit_is_noticed(folder: Path) -> None:
    content = bytearray(stored(folder).read_bytes())
    content[-1] ^= 1
    stored(folder).write_bytes(content)
    with pytest.raises(
        ModelError, match=r"weights\.\w+\.safetensors is not the file that the manifest describes"
    ):
        blemish.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    stored(folder).unlink()
    with pytest.raises(
        ModelError, match=r"weights\.\w+\.safetensors is missing\. The model folder is incomplete"
    ):
        blemish.load(folder)


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_no_model_there(folder: Path, path: str) -> None:
    (folder / FILE).unlink()
    with pytest.raises(ModelError, match=r"is not a model: it has no manifest\.json\. Name a folder that"):
        blemish.load(folder / path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", f"{WEIGHTS}/../x", "sub/model.onnx"])
def test_no_path_leads_out_of_the_folder(folder: Path, name: str) -> None:
    tamper(folder, lambda values: values["files"].update({name: "00"}))
    with pytest.raises(
        ModelError, match=r"the only files of a model, got .* from a place that you trust, or fit again"
    ):
        blemish.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v.update(format=7, later=1), "has format 7, this blemish reads up to 6. Update"),
        (lambda v: v.update(unheard=1), "unheard is unknown"),
        (lambda v: v.pop("seed"), "seed is missing"),
        (lambda v: v.update(method=5), "method must be text, got 5"),
        (lambda v: v.update(files={}), "holds no weights.safetensors"),
        (lambda v: v["preprocess"].update(size=[10**6, 10**6]), "whole numbers from 1 to 16384"),
        (lambda v: v["calibration"].update(normal_scores=[]), "at least one finite number"),
        (lambda v: v["calibration"].update(normal_peaks=[1.0, 2.0, 3.0]), "must be of equal length"),
        (lambda v: v["arguments"].update(gain=float("nan")), "arguments must be an object that JSON can hold"),
        (lambda v: v["arguments"].update(colour="red"), "Average has no argument 'colour'"),
        (lambda v: v["arguments"].update(gain=-1.0), "gain must be a number above 0, got -1.0"),
        (lambda v: v["arguments"].update(gain="x"), "gain must be a number above 0, got 'x'"),
    ],
)  # fmt: skip
def test_a_false_manifest_is_one_clear_error(
    folder: Path, change: Callable[[Json], None], match: str
) -> None:
    tamper(folder, change)
    with pytest.raises(ModelError, match=match):
        blemish.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v["data"].pop("hashes"), "data.hashes is missing"),
        (lambda v: v["data"].update(hashes=["no hex digits.."] * 8), "data.hashes must be a list of 16 hex digits"),
        (lambda v: v["data"].update(learned_from="7"), "data.learned_from must be a whole number, .*, got '7'"),
        (lambda v: v["data"].update(learned_from=10**12), "data: learned_from 1000000000000 and held_out 0 must be"),
        (lambda v: v["data"].update(images=[]), "data: learned_from 8 and held_out 0 must be the numbers of images"),
        (lambda v: v["calibration"].update(image_threshold="1"), "calibration.image_threshold must be a finite"),
        (lambda v: v["history"].update(updates=["much"]), r"history.updates\[0\] must be a JSON object, got .much"),
        (lambda v: v.update(method="\ud800"), "it is not valid JSON: "),
        (lambda v: v["data"].update(category="\ud800"), "it is not valid JSON: "),
    ],
)  # fmt: skip
def test_no_manifest_that_lacks_something_is_used_or_rewritten(
    folder: Path, change: Callable[[Json], Any], match: str
) -> None:
    tamper(folder, change)
    before = (folder / FILE).read_bytes()
    for use in (blemish.load, lambda folder: blemish.recalibrate(folder, image=1.0)):
        with pytest.raises(ModelError, match=match):
            use(folder)
    assert (folder / FILE).read_bytes() == before


def test_a_method_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})
    with pytest.raises(
        MethodError,
        match=r"was fitted with the method 'average', which is not known here\. Import the module",
    ):
        blemish.load(folder)


@pytest.mark.parametrize("name", ["os:system", "blemish.methods.pca:PCA", "../pca", "", "__init__"])
def test_a_method_is_a_name_never_code(folder: Path, name: str) -> None:
    tamper(folder, lambda values: values.update(method=name))
    with pytest.raises(MethodError, match="which is not known here"):
        blemish.load(folder)


def test_a_refused_model_is_left_as_it_was(folder: Path) -> None:
    tamper(folder, lambda values: values.update(format=9))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for use in (blemish.load, blemish.recalibrate, read_manifest):
        with pytest.raises(ModelError, match="format 9"):
            use(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
