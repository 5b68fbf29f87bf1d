"""Weights in the user's cache: found by everything that decides them, never trusted, never half written."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blemish.errors import BlemishWarning
from blemish.features import trained_weights
from blemish.features.trained_weights import keep_trained, read_trained, trained_file

STATE = {"weight": torch.rand(3, 4), "bias": torch.rand(3)}
SHAPES = {name: tensor.shape for name, tensor in STATE.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "not there yet" / "weights"
    monkeypatch.setattr(trained_weights, "cache_folder", lambda: folder)
    return folder


def test_every_value_shape_and_pixel_decides_the_name(cache: Path) -> None:
    image = torch.rand(1, 3, 4, 6)
    brighter = image.clone()
    brighter[0, 2, 3, 5] += 1e-6
    names = [
        trained_file("own", values, tensors)
        for values, tensors in (
            ({"steps": 1, "seed": 0}, [image]),
            ({"steps": 2, "seed": 0}, [image]),
            ({"steps": 1, "seed": 1}, [image]),
            ({"steps": 1, "seed": 0}, [brighter]),
            ({"steps": 1, "seed": 0}, [image, image]),
            ({"steps": 1, "seed": 0}, [image.view(1, 3, 6, 4)]),
        )
    ]
    assert len(set(names)) == len(names)
    assert names[0] == trained_file("own", {"seed": 0, "steps": 1}, [image.clone()])
    assert names[0].parent == cache
    assert names[0].name.startswith("own-")


def test_what_is_kept_is_read_bit_by_bit(cache: Path) -> None:
    path = trained_file("own", {}, [])
    assert read_trained(path, SHAPES) is None
    keep_trained(path, STATE)
    found = read_trained(path, SHAPES)
    assert found is not None
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    assert [file.name for file in cache.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "shape", "name", "type", "nan"])
def test_a_damaged_file_is_a_warning_and_no_weights(cache: Path, damage: str) -> None:
    path = trained_file("own", {}, [])
    keep_trained(path, STATE)
    whole = path.read_bytes()
    if damage in ("cut", "text", "empty"):
        path.write_bytes({"cut": whole[:-5], "text": b"weights", "empty": b""}[damage])
    else:
        other = {
            "shape": {**STATE, "bias": torch.rand(4)},
            "name": {"weight": STATE["weight"], "offset": STATE["bias"]},
            "type": {**STATE, "bias": STATE["bias"].double()},
            "nan": {**STATE, "bias": torch.full((3,), torch.nan)},
        }[damage]
        save_file(other, path)
    with pytest.warns(BlemishWarning, match=r"are damaged: .+\. They are trained anew\.$"):
        assert read_trained(path, SHAPES) is None


def test_a_folder_that_cannot_be_written_is_a_warning(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file, where the folder should be")
    with pytest.warns(
        BlemishWarning, match=r"cannot be kept in .*: File exists\. The next fit trains them again\.$"
    ):
        keep_trained(trained_file("own", {}, []), STATE)
