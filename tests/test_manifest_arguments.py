"""A model is rebuilt from the arguments in its manifest and, in the current format, from no default."""

import json
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.errors import ModelError
from blemish.features import imagenet
from blemish.manifest import FILE, read_manifest
from tiny_product import SMALL, normal_samples


def fitted(folder: Path, method: str, **arguments: Any) -> Path:
    samples = normal_samples(folder / "images", 4)
    model = blemish.fit(method, samples, preprocess=SMALL, arguments=arguments)
    return model.save(folder / "m")


def manifest_without(folder: Path, argument: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / FILE).read_text("utf-8"))
    del values["arguments"][argument]
    return values


def test_missing_argument_is_not_replaced_by_its_default(tmp_path: Path) -> None:
    folder = fitted(tmp_path, "template", match_brightness=False)
    (folder / FILE).write_text(json.dumps(manifest_without(folder, "match_brightness")), "utf-8")
    with pytest.raises(ModelError) as caught:
        blemish.load(folder)
    assert str(caught.value) == (
        f"{folder / FILE} lacks the arguments match_brightness of template: it is damaged, or another version of the "
        "method wrote it. Copy the model folder again, or fit again."
    )


def test_arguments_that_format_1_lacks_are_written_by_the_next_save(tmp_path: Path) -> None:
    folder = fitted(tmp_path, "patchcore", backbone="compact:random")
    expected = read_manifest(folder).arguments
    values = manifest_without(folder, "squared")
    values["format"] = 1
    values["preprocess"] |= {"mean": imagenet.MEAN, "std": imagenet.STD}
    (folder / FILE).write_text(json.dumps(values), "utf-8")
    blemish.load(folder).save(folder)
    assert read_manifest(folder).arguments == expected
    blemish.load(folder)
