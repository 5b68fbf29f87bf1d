"""What `fit` refuses: a learned method; anomalous, unreadable or too few images; impossible shares."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish import plugins
from blemish.data.dataset import Dataset
from blemish.data.images import read_image, write_image
from blemish.data.splits import hold_out
from blemish.errors import DataError, MethodError, ModelError
from blemish.methods.pca import PCA
from blemish.types import Prediction, Sample
from tiny_product import (
    SMALL,
    Average,
    Spy,
    fit,
    normal_samples,
    saved_weights,
)


class NoNumber(Average):
    """Gives NaN to dark images."""

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        score, anomaly_map = super().forward(images)
        return Prediction(torch.where(images.mean((1, 2, 3)) < 0.1, torch.nan, score), anomaly_map)


def test_a_held_out_image_without_a_score_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"no_number": NoNumber})
    samples = normal_samples(tmp_path, 10)
    _, held_out = hold_out(samples, 0.3, seed=0)
    write_image(held_out[1].path, np.zeros((48, 60, 3), np.uint8))
    with pytest.raises(
        ModelError, match=rf"^The model gave {held_out[1].path} a score or an anomaly map that is NaN"
    ):
        fit(samples, NoNumber(), hold_out_share=0.3, group_by="none")


def test_anomalous_images_are_refused(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 5)
    spoilt = [replace(s, label=1, defect_type="dent") if i in (2, 4) else s for i, s in enumerate(samples)]
    with pytest.raises(
        DataError, match=r"2 of the images to learn from are labelled anomalous, the first is .*002"
    ):
        fit(spoilt)


@pytest.mark.parametrize(("count", "match"), [(0, "at least 2 normal images"), (1, "at least 2 are needed")])
def test_too_few_images_are_refused(tmp_path: Path, count: int, match: str) -> None:
    with pytest.raises(DataError, match=match):
        fit(normal_samples(tmp_path, count))


@pytest.mark.parametrize("kind", [str, Path])
def test_one_path_is_not_a_list_of_images(tmp_path: Path, kind: type[Any]) -> None:
    with pytest.raises(
        DataError, match=r"is a single path\. Give images, e\.g\. blemish\.open_dataset\(folder\)\.train"
    ):
        fit(kind(tmp_path))
    with pytest.raises(
        DataError,
        match=rf"^{re.escape(str(tmp_path))} is a folder, not an image\. Give its images, e\.g\. "
        r"blemish\.open_dataset\(folder\)\.train\.$",
    ):
        fit([kind(tmp_path)])


def spoil(samples: Sequence[Sample]) -> list[Path]:
    """Make four of the files unreadable, each in another way."""
    truncated, empty, text, absent = (sample.path for sample in samples[1:8:2])
    truncated.write_bytes(truncated.read_bytes()[:200])
    empty.write_bytes(b"")
    text.write_text("not an image")
    absent.unlink()
    return [truncated, empty, text, absent]


@pytest.mark.parametrize("seed", range(3))
def test_all_unreadable_images_are_listed(tmp_path: Path, seed: int) -> None:
    """Whichever of them is met first, while learning or while calibrating."""
    samples = normal_samples(tmp_path, 9)
    bad = spoil(samples)
    with pytest.raises(DataError, match=r"^4 of 9 images cannot be read:") as error:
        fit(samples, seed=seed, hold_out_share=0.5)
    lines = str(error.value).splitlines()
    assert [line.split(" ")[2] for line in lines[1:-1]] == [str(path) for path in bad]
    problems = ["truncated or damaged", "is empty", "is not a PNG", "does not exist"]
    assert all(problem in line for problem, line in zip(problems, lines[1:-1], strict=True))
    assert lines[-1].endswith("or skip them with --skip-unreadable (skip_unreadable=True).")


def test_one_unreadable_image_among_the_held_out_is_found_too(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 10)
    spy = Spy()
    fit(samples, spy, calibrate="hold-out")
    learned = {image.tobytes() for image in spy.learned_images}
    (held_out,) = (s.path for s in samples if SMALL(read_image(s.path)).tobytes() not in learned)
    held_out.write_bytes(b"")
    with pytest.raises(DataError, match=rf"^1 of 10 images cannot be read:\n  .*{held_out.name} is empty"):
        fit(samples)


def test_unreadable_images_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "parts", 9)
    bad = spoil(samples)
    readable = [sample for sample in samples if sample.path not in bad]
    model, expected = fit(samples, skip_unreadable=True), fit(readable)
    assert model.manifest.data == expected.manifest.data.changed(skipped=4)
    assert saved_weights(model, tmp_path / "a") == saved_weights(expected, tmp_path / "b")


def test_too_few_images_left_after_skipping(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 3)
    for sample in samples[1:]:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError, match="at least 2 are needed"):
        fit(samples, skip_unreadable=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"false_alarm_rate": 0.0}, "A false-alarm rate must be between 0 and 1"),
        ({"false_alarm_rate": 1.0}, "A false-alarm rate must be between 0 and 1"),
        ({"false_alarm_rate": math.nan}, "A false-alarm rate must be between 0 and 1"),
        ({"hold_out_share": 0.0}, "share to hold out must lie between 0 and 1"),
        ({"hold_out_share": 1.0}, "share to hold out must lie between 0 and 1"),
    ],
)
def test_impossible_shares_are_refused_before_learning(tmp_path: Path, options: Any, match: str) -> None:
    spy = Spy()
    with pytest.raises(ValueError, match=match):
        fit(normal_samples(tmp_path, 3), spy, **options)
    assert not spy.learned_images


def test_a_method_without_a_name_is_refused_before_learning(tmp_path: Path) -> None:
    class Nameless(Spy):
        pass

    spy = Nameless()
    with pytest.raises(MethodError, match="Nameless has no name by which a saved model could find it"):
        fit(normal_samples(tmp_path, 3), spy)
    assert not spy.learned_images


def test_a_learned_method_is_refused_so_that_its_model_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})
    samples = normal_samples(tmp_path, 6)
    method = Average()
    model = blemish.fit(method, samples, preprocess=SMALL)
    before = model.inspect(samples[0].path).score
    with pytest.raises(
        MethodError, match=r"^Average has learned already, and a model may use it\. Give a new one"
    ):
        blemish.fit(method, samples[1:], preprocess=SMALL)
    assert model.inspect(samples[0].path).score == before


def test_a_method_whose_fit_was_interrupted_is_refused(tmp_path: Path) -> None:
    """Its hooks would add to what the interrupted ones left, and give another model than a new method."""

    def interrupt(phase: str, *_: object) -> None:
        if phase == "collecting":
            raise KeyboardInterrupt

    method, samples = PCA(), normal_samples(tmp_path, 6)
    with pytest.raises(KeyboardInterrupt):
        blemish.fit(method, samples, preprocess=SMALL, progress=interrupt)
    with pytest.raises(
        MethodError,
        match=r"^PCA is learning already, or an earlier fit of it was interrupted\. Give a new one to each",
    ):
        blemish.fit(method, samples, preprocess=SMALL)


@pytest.mark.parametrize("method", [PCA, None, 3])
def test_what_is_no_method_is_refused(method: Any, tmp_path: Path) -> None:
    with pytest.raises(
        MethodError, match=r"^method must be a name or a method such as blemish\.PCA\(\), got "
    ):
        blemish.fit(method, normal_samples(tmp_path, 3))


@pytest.mark.parametrize("images", [Dataset(Path(), "flat", ()), 3, [3], [None]])
def test_what_are_no_images_is_refused(images: Any) -> None:
    with pytest.raises(
        DataError, match=r"^Images are samples or paths, got .*\. Give a list, e\.g\. Dataset\.train"
    ):
        blemish.fit("pca", images)


@pytest.mark.parametrize("preprocess", [5, (64, 64)])
def test_what_is_no_preprocessing_is_named(tmp_path: Path, preprocess: Any) -> None:
    with pytest.raises(
        MethodError, match=r"^preprocess must be a blemish\.Preprocess, such as Preprocess\(size="
    ):
        blemish.fit("pca", normal_samples(tmp_path / "parts", 4), preprocess=preprocess)
