"""Images that watch the training are neither trained on nor those that the thresholds rest on."""

from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish import training
from blemish.data.preprocess import Preprocess
from blemish.training import learn
from tiny_product import normal_samples

INPUT = Preprocess(size=(48, 64))


def sources(images: Any) -> list[Path]:
    return [sample.path for sample in images.sources]


def fitted(
    method: blemish.Method, folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[blemish.Model, list[Path], list[Path]]:
    """The model, the images that were trained on, and those that watched."""
    seen: list[list[Path]] = []

    def spy(method: Any, images: Any, **others: Any) -> Any:
        seen.extend([sources(images), sources(others["held_out"])])
        return learn(method, images, **others)

    monkeypatch.setattr(training, "learn", spy)
    model = blemish.fit(method, normal_samples(folder, count), preprocess=INPUT, hold_out_share=0.2)
    return model, seen[0], seen[1]


def test_a_tenth_of_the_images_learned_from_decides_when_training_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = blemish.VAE(size=32, width=4, code=4, epochs=3, batch_size=4, patience=2)
    model, trained, watched = fitted(method, tmp_path, 25, monkeypatch)
    assert (len(trained), len(watched)) == (18, 2)
    assert not set(trained) & set(watched)
    data = model.manifest.data
    assert (data.learned_from, data.held_out, model.calibration.images) == (20, 5, 5)
    assert {path.name for path in [*trained, *watched]} == {Path(name).name for name in data.images}
    assert all("held_out" in row for row in model.manifest.history.losses)


def test_without_patience_all_images_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = blemish.VAE(size=32, width=4, code=4, epochs=1, batch_size=4, patience=0)
    _, trained, watched = fitted(method, tmp_path, 10, monkeypatch)
    assert (len(trained), len(watched)) == (8, 0)


def test_a_single_image_is_trained_on_and_nothing_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = blemish.VAE(size=32, width=4, code=4, epochs=2, batch_size=4, patience=1, standardise=False)
    model, trained, watched = fitted(method, tmp_path, 2, monkeypatch)
    assert (len(trained), len(watched)) == (1, 0)
    assert len(model.manifest.history.losses) == 2
