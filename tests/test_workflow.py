import math
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import Tensor

import blemish
from blemish import plugins
from blemish.calibration import Calibration
from blemish.data import content
from blemish.data.content import content_hashes, fingerprint
from blemish.data.images import content_fingerprint, read_image, write_image
from blemish.data.preprocess import Preprocess
from blemish.data.splits import hold_out
from blemish.errors import BlemishWarning, DataError, MethodError, ModelError
from blemish.inspection.result import Inspection
from blemish.manifest import WEIGHTS
from blemish.methods.base import Method, Preset
from blemish.model import Model
from blemish.scoring import PIXELS_AT_ONCE, batch_size
from blemish.types import Mask, Prediction, Sample
from tiny_product import SMALL, Average, defect_place, draw_part, normal_samples


class Spy(Average):
    """Keeps the images that it learns from."""

    def build(self) -> None:
        super().build()
        self.learned_images: list[NDArray[np.float32]] = []

    def collect(self, batches: Iterable[Tensor]) -> None:
        images = list(batches)
        self.learned_images = [image.numpy() for batch in images for image in batch]
        super().collect(images)


class Random(Average):
    """Learns random numbers beside the average."""

    def build(self) -> None:
        super().build()
        self.drawn: Tensor
        self.register_buffer("drawn", torch.empty(0))

    def finish(self, batches: Iterable[Tensor]) -> None:
        self.drawn = torch.rand(4)


@pytest.fixture(autouse=True)
def _methods_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average, "spy": Spy, "random": Random})


def fit(images: Any, method: Method | None = None, **options: Any) -> Model:
    return blemish.fit(method or Average(), images, preprocess=SMALL, **options)


def weights(model: Model, folder: Path) -> bytes:
    return (model.save(folder) / WEIGHTS).read_bytes()


def without_time(model: Model) -> dict[str, Any]:
    values = model.manifest.changed(files={}).to_dict()
    assert values["history"].pop("seconds") >= 0
    return values


# fit


@pytest.mark.parametrize("checkpoint", [False, True])
def test_each_file_is_read_once_for_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: bool
) -> None:
    """For the manifest, the checkpoint and the comparison with the test images together."""
    samples, test = normal_samples(tmp_path / "train", 10), labelled(tmp_path / "test")
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
    assert len({weights(model, tmp_path / str(index)) for index, model in enumerate(models)}) == 1


def test_the_manifest_says_what_was_learned_from(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 7)
    model = fit(samples, hold_out_share=0.3, seed=4, false_alarm_rate=0.2)
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
        [m.max() for m in maps], [m.max() for m in restored], [np.median(m) for m in restored], 0.3
    )
    for name, value in expected.to_dict().items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4), name


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
        fit(samples, NoNumber(), hold_out_share=0.3)


def test_one_seed_gives_one_model_whatever_the_order(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "parts", 10)
    torch.rand(3)
    state = torch.get_rng_state()
    method = Random()
    first, second = fit(samples, method, seed=1), fit(samples[::-1], Random(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(method.drawn, torch.rand(4, generator=torch.Generator().manual_seed(1)))
    other = fit(samples, Random(), seed=2)
    assert weights(first, tmp_path / "1") == weights(second, tmp_path / "2")
    assert first.calibration == second.calibration
    assert first.manifest.data.fingerprint == second.manifest.data.fingerprint
    assert weights(first, tmp_path / "1") != weights(other, tmp_path / "3")


def test_a_name_stands_for_the_method_with_its_defaults(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path, 4)
    by_name = blemish.fit("average", samples, preprocess=SMALL)
    assert without_time(by_name) == without_time(fit(samples))
    assert blemish.fit("average", samples).preprocess == Preprocess()


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
    fit(samples, spy)
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
    assert weights(model, tmp_path / "a") == weights(expected, tmp_path / "b")


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
        ({"hold_out_share": 0.0}, "share must lie between 0 and 1"),
        ({"hold_out_share": 1.0}, "share must lie between 0 and 1"),
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


def test_fit_reports_its_phases(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    samples = normal_samples(tmp_path, 10)
    fit(samples, hold_out_share=0.3, skip_unreadable=True, progress=lambda *what: calls.append(what))
    assert list(dict.fromkeys(phase for phase, _, _ in calls)) == [
        "checking images",
        "collecting",
        "calibrating",
    ]
    for phase, total in (("checking images", 10), ("collecting", 1), ("calibrating", 3)):
        assert [what for what in calls if what[0] == phase][-1] == (phase, total, total)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 256), 2), ((512, 512), 1), ((1024, 1024), 1), ((32, 40), 102), ((1, 1), 131072)],
)
def test_batches_hold_about_as_many_pixels(size: tuple[int, int], expected: int) -> None:
    assert batch_size(Preprocess(size=size)) == expected
    assert expected * size[0] * size[1] <= max(PIXELS_AT_ONCE, size[0] * size[1])


# create_method


def test_a_preset_brings_arguments_and_preprocessing() -> None:
    method = blemish.create_method(
        "patchcore", preset="amazon", arguments={"backbone": "compact:random", "coreset_ratio": 0.5}
    )
    assert method.arguments == {
        "backbone": "compact:random",
        "layers": (2, 3),
        "coreset_ratio": 0.5,
        "bank_size": None,
        "coreset": "auto",
        "neighbours": 1,
        "patch_size": 3,
        "squared": True,
        "mean_mapped": 1024,
    }
    assert blemish.preset_preprocess("patchcore", "amazon") == Preprocess(size=(256, 256), crop=(224, 224))
    assert blemish.preset_preprocess("pca", None) == Preprocess()


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


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("padm", {}, r"No method is called 'padm'\. Did you mean 'padim'\? Choose one of: patchcore, padim"),
        ("padim", {"preset": "papr"}, r"padim has no preset 'papr'\. It has: paper\."),
        ("average", {"preset": "paper"}, r"average has no preset 'paper'\. It has: none\."),
        ("average", {"arguments": {"gian": 2}}, r"Average has no argument 'gian'\. It has: gain\."),
        (
            "average",
            {"arguments": {"gain": -1.0}},
            r"Average: gain must be a number above 0, got -1\.0\. The default is 1\.0\.",
        ),
        (
            "average",
            {"arguments": {"gain": "x"}},
            r"Average: gain must be a number above 0, got 'x'\.",
        ),
        (
            "patchcore",
            {"arguments": {"backbone": 5}},
            r"PatchCore: backbone must be text, got 5\. The default is 'compact'\.",
        ),
        (
            "patchcore",
            {"arguments": {"coreset_ratio": 2.0}},
            r"coreset_ratio must be a number in \(0, 1\], got 2\.0",
        ),
    ],
)
def test_a_method_that_cannot_be_built_says_why(name: str, options: Any, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        blemish.create_method(name, **options)


# evaluate


def labelled(folder: Path, masks: bool = True) -> list[Sample]:
    """Good and defective parts of differing sizes, the defects from faint to strong."""
    samples = []
    for index in range(24):
        size = (40 + 7 * (index % 4), 50 + 9 * (index % 3))
        strength = [0.0, 0.12, 0.0, 0.4][index % 4]
        path = folder / f"{index:02}.png"
        folder.mkdir(exist_ok=True)
        write_image(path, draw_part(1000 + index, size, strength))
        mask_path = folder / f"{index:02}_mask.png" if masks and strength else None
        if mask_path:
            mask = np.zeros(size, bool)
            mask[defect_place(size)] = True
            write_image(mask_path, mask)
        kind = "strong" if strength > 0.2 else "faint" if strength else "good"
        samples.append(Sample(path, int(strength > 0), "test", kind, mask_path))
    return samples


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return fit(normal_samples(tmp_path / "train", 20), hold_out_share=0.4, false_alarm_rate=0.3)


def best_f1(labels: Any, scores: Any) -> float:
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def test_numbers_are_those_of_scikit_learn_at_the_original_resolution(model: Model, tmp_path: Path) -> None:
    samples = labelled(tmp_path / "test")
    found = blemish.evaluate(model, samples)

    singly = [model.inspect(sample.path) for sample in samples]
    labels = [sample.label for sample in samples]
    scores = np.array([inspection.score for inspection in singly])
    pixels = np.concatenate([inspection.anomaly_map.ravel() for inspection in singly])
    truth = np.concatenate(
        [
            read_image(s.mask_path)[:, :, 0].ravel() > 0
            if s.mask_path
            else np.zeros(i.anomaly_map.size, bool)
            for s, i in zip(samples, singly, strict=True)
        ]
    )
    assert len({inspection.anomaly_map.shape for inspection in singly}) == 12
    assert found.images == 24
    assert 0.5 < found_number(found.image_auroc) < 1
    expected = {
        "image_auroc": metrics.roc_auc_score(labels, scores),
        "image_ap": metrics.average_precision_score(labels, scores),
        "image_f1_max": best_f1(labels, scores),
        "pixel_auroc": metrics.roc_auc_score(truth, pixels),
        "pixel_ap": metrics.average_precision_score(truth, pixels),
        "pixel_f1_max": best_f1(truth, pixels),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=2e-4), name
    called = scores > model.calibration.image_threshold
    assert found.false_alarm_rate == called[np.array(labels) == 0].mean()
    assert found.miss_rate == 1 - called[np.array(labels) == 1].mean()
    assert found.image_scores == pytest.approx(scores, rel=1e-5)
    assert {name: row["images"] for name, row in found.by_type.items()} == {"faint": 6, "strong": 6}
    assert found.seconds_per_image is not None
    assert 0 < found.seconds_per_image < 10


def found_number(value: float | None) -> float:
    assert value is not None
    return value


def test_without_masks_there_are_no_pixel_numbers_but_a_reason(model: Model, tmp_path: Path) -> None:
    with_masks = blemish.evaluate(model, labelled(tmp_path / "a"))
    without = blemish.evaluate(model, labelled(tmp_path / "b", masks=False))
    assert without.image_auroc == with_masks.image_auroc
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"):
        assert getattr(without, name) is None
        assert "mask" in without.reasons[name]


def test_an_observer_sees_each_image_with_verdict_and_mask(model: Model, tmp_path: Path) -> None:
    samples = labelled(tmp_path / "test")
    seen: list[tuple[Sample, Inspection, Mask | None]] = []
    calls: list[tuple[str, int, int | None]] = []
    blemish.evaluate(
        model,
        samples,
        observe=lambda *what: seen.append(what),
        progress=lambda *what: calls.append(what),
    )
    assert [sample for sample, _, _ in seen] == samples
    for sample, inspection, mask in seen:
        np.testing.assert_array_equal(inspection.image, read_image(sample.path))
        alone = model.inspect(sample.path)
        assert inspection.path == sample.path
        assert inspection.score == pytest.approx(alone.score, rel=1e-5)
        assert inspection.verdict == alone.verdict
        assert (mask is not None) == bool(sample.label)
        if mask is not None:
            assert mask.sum() == np.count_nonzero(read_image(sample.mask_path or "")[:, :, 0])
    assert calls == [("evaluating", done, 24) for done in range(1, 25)]


def test_a_report_is_written(model: Model, tmp_path: Path) -> None:
    blemish.evaluate(model, labelled(tmp_path / "test"), report=tmp_path / "report.html")
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")


def test_training_images_among_the_test_images_are_a_loud_warning(model: Model, tmp_path: Path) -> None:
    samples = labelled(tmp_path / "test")
    copy = tmp_path / "test" / "renamed.png"
    copy.write_bytes((tmp_path / "train" / "003.png").read_bytes())
    spoilt = [*samples, Sample(copy, 0, "test"), Sample(tmp_path / "train" / "007.png", 0, "test")]
    loaded = blemish.load(model.save(tmp_path / "model"))
    for one in (model, loaded):
        with pytest.warns(
            BlemishWarning, match=r"2 test images are also training images, .* first is .*renamed\.png"
        ):
            found = blemish.evaluate(one, spoilt)
        assert found.images == 26
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            blemish.evaluate(one, samples)


def test_nothing_to_evaluate_on(model: Model) -> None:
    with pytest.raises(DataError, match="There is no image to evaluate on"):
        blemish.evaluate(model, [])


def test_a_mask_of_another_size_is_refused(model: Model, tmp_path: Path) -> None:
    samples = labelled(tmp_path / "test")
    mask = samples[1].mask_path
    assert mask is not None
    write_image(mask, np.ones((5, 5), bool))
    with pytest.raises(DataError, match=rf"{mask.name} is a mask of 5×5 pixels"):
        blemish.evaluate(model, samples)


def test_an_unreadable_test_image_is_named(model: Model, tmp_path: Path) -> None:
    samples = labelled(tmp_path / "test")
    samples[5].path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{samples[5].path.name} is empty"):
        blemish.evaluate(model, samples)
