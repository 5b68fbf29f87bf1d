"""`fit`: what is learned, calibrated and recorded."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish import plugins
from blemish.calibration import Calibration
from blemish.data import content
from blemish.data.content import content_hashes, fingerprint
from blemish.data.images import content_fingerprint, read_image
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning, MethodError
from blemish.methods.base import Preset
from blemish.model import Model
from tiny_product import SMALL, Average, Spy, fit, labelled_samples, normal_samples, saved_weights


class Random(Average):
    """Learns random numbers beside the average."""

    def build(self) -> None:
        super().build()
        self.drawn: Tensor
        self.register_buffer("drawn", torch.empty(0))

    def finish(self, batches: Iterable[Tensor]) -> None:
        self.drawn = torch.rand(4)


@pytest.fixture(autouse=True)
def _random_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered, "random", Random)


def without_time(model: Model) -> dict[str, Any]:
    values = model.manifest.changed(files={}).to_dict()
    assert values["history"].pop("seconds") >= 0
    return values


@pytest.mark.parametrize("checkpoint", [False, True])
def test_each_file_is_read_once_for_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: bool
) -> None:
    """For the manifest, the checkpoint and the comparison with the test images together."""
    samples, test = normal_samples(tmp_path / "train", 10), labelled_samples(tmp_path / "test")
    shutil.copy(samples[3].path, test[0].path)
    reads: Counter[Path] = Counter()
    original = content_fingerprint

    def counting(path: Path) -> str:
        reads[path] += 1
        return original(path)

    monkeypatch.setattr(content, "content_fingerprint", counting)
    folder = tmp_path / "unfinished" if checkpoint else None
    with pytest.warns(
        BlemishWarning,
        match=rf"^1 test images are also training images, so an evaluation would be too optimistic; the first is "
        rf"{test[0].path}, the same as {samples[3].path}\. Remove them from one of the two\.$",
    ):
        model = fit(samples, test=test, checkpoint=folder)
    assert {path: count for path, count in reads.items() if path.parent.name == "train"} == {
        sample.path: 1 for sample in samples
    }
    assert reads[test[0].path] == 1
    assert max(reads.values()) == 1
    assert model.manifest.data == fit(samples).manifest.data


def test_samples_paths_and_text_are_the_same_images(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "好 parts", 6)
    plain = [replace(sample, category="") for sample in samples]
    sources: list[Sequence[Any]] = [plain, [s.path for s in samples], [str(s.path) for s in samples]]
    models = [fit(source) for source in sources]
    assert without_time(models[0]) == without_time(models[1]) == without_time(models[2])
    assert len({saved_weights(model, tmp_path / str(index)) for index, model in enumerate(models)}) == 1


def test_the_manifest_says_what_was_learned_from(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 7)
    model = fit(samples, hold_out_share=0.3, seed=4, false_alarm_rate=0.2, group_by="none")
    manifest = model.manifest
    data = manifest.data.to_dict()
    images = data.pop("images")
    assert len(images) == 5
    assert set(images) < {sample.path.name for sample in samples}
    assert images != sorted(images), "they are learned in random order"
    assert data == {
        "category": "disc",
        "learned_from": 5,
        "held_out": 2,
        "skipped": 0,
        "excluded": 0,
        "group_by": "none",
        "groups": [samples.index(next(s for s in samples if s.path.name == name)) for name in images],
        "fingerprint": fingerprint(samples, content_hashes(sample.path for sample in samples)),
        "hashes": [content_fingerprint(sample.path)[:16] for sample in samples],
    }
    assert (manifest.method, manifest.arguments, manifest.seed) == ("average", {"gain": 1.0}, 4)
    assert manifest.preprocess == model.preprocess == SMALL
    assert manifest.history.losses == ()
    assert model.calibration.false_alarm_rate == 0.2


def test_held_out_images_calibrate_and_are_not_learned_from(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 12)
    inputs = {sample.path: SMALL(read_image(sample.path)) for sample in samples}
    spy = Spy()
    model = fit(samples, spy, hold_out_share=0.25, false_alarm_rate=0.3)
    learned = {image.tobytes() for image in spy.learned_images}
    held_out = [path for path, image in inputs.items() if image.tobytes() not in learned]
    assert len(spy.learned_images) == len(learned) == 9
    assert learned < {image.tobytes() for image in inputs.values()}
    assert len(held_out) == 3

    average = np.mean([image for path, image in inputs.items() if path not in held_out], axis=0)
    maps = [np.abs(inputs[path] - average).mean(0) for path in held_out]
    found = model.calibration
    assert found.normal_scores == pytest.approx(sorted(float(m.max()) for m in maps), rel=1e-4)
    restored = [SMALL.restore(m, (48, 60)) for m in maps]
    expected = Calibration.from_normal(
        [m.max() for m in maps],
        [m.max() for m in restored],
        [np.median(m) for m in restored],
        0.3,
    )
    for name, value in expected.changed(groups=found.groups).to_dict().items():
        assert getattr(found, name) == (value if value is None else pytest.approx(value, rel=1e-4)), name


def test_one_seed_gives_one_model_whatever_the_order(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "parts", 10)
    torch.rand(3)
    state = torch.get_rng_state()
    method = Random()
    first, second = fit(samples, method, seed=1), fit(samples[::-1], Random(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(method.drawn, torch.rand(4, generator=torch.Generator().manual_seed(1)))
    other = fit(samples, Random(), seed=2)
    assert saved_weights(first, tmp_path / "1") == saved_weights(second, tmp_path / "2")
    assert first.calibration == second.calibration
    assert first.manifest.data.fingerprint == second.manifest.data.fingerprint
    assert saved_weights(first, tmp_path / "1") != saved_weights(other, tmp_path / "3")


def test_a_name_stands_for_the_method_with_its_defaults(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    by_name = blemish.fit("average", samples, preprocess=SMALL)
    assert without_time(by_name) == without_time(fit(samples))
    assert blemish.fit("average", samples).preprocess == Preprocess(size=(224, 288))


def test_fit_reports_its_phases(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    samples = normal_samples(tmp_path, 10)
    fit(samples, hold_out_share=0.3, skip_unreadable=True, progress=lambda *what: calls.append(what))
    assert list(dict.fromkeys(phase for phase, _, _ in calls)) == [
        "checking images",
        "comparing images",
        "registering pairs",
        "collecting",
        "calibrating",
    ]
    for phase, total in (("checking images", 10), ("collecting", 1), ("calibrating", 3)):
        assert [what for what in calls if what[0] == phase][-1] == (phase, total, total)


def test_fit_takes_a_preset_and_arguments_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {"small": Preset(arguments={"gain": 2.0}, preprocess={"size": (24, 16)})}
    monkeypatch.setattr(Average, "presets", presets)
    samples = normal_samples(tmp_path, 4)
    model = blemish.fit("average", samples, preset="small")
    assert (model.manifest.arguments, model.preprocess) == ({"gain": 2.0}, Preprocess(size=(24, 16)))
    model = blemish.fit("average", samples, preset="small", arguments={"gain": 3.0}, preprocess=SMALL)
    assert (model.manifest.arguments, model.preprocess) == ({"gain": 3.0}, SMALL)
    for options in ({"preset": "small"}, {"arguments": {"gain": 3.0}}):
        with pytest.raises(
            MethodError,
            match=r"preset and arguments are for a method given by name, but a built method was given\. "
            r"Give its name, or leave them out\.",
        ):
            fit(samples, **options)
