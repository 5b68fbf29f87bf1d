"""Updates: new normal images are added, a defect that was learned as normal is forgotten."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import blemish
from blemish.blocks.memory.bank import MemoryBank
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, MethodError, ModelError
from blemish.methods.patchcore import PatchCore
from blemish.model import Model
from blemish.types import Sample
from tiny_product import defect_place, draw_part, normal_samples, tiny_model

SIZE = (64, 96)
PREPROCESS = Preprocess(size=SIZE)


def variant(seed: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Another good kind of the product, with a stripe."""
    pixels = draw_part(seed)
    pixels[4:12, 10:50] = (200, 60, 60)
    return pixels


def written(folder: Path, images: list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"new{index}.png" for index in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        write_image(path, pixels)
    return paths


def fitted(samples: list[Sample], **arguments: object) -> Model:
    method = PatchCore(**{"backbone": "compact:random", "coreset_ratio": 0.3, **arguments})  # type: ignore[arg-type]
    return blemish.fit(method, samples, preprocess=PREPROCESS, false_alarm_rate=0.2)


def patchcore(model: Model) -> PatchCore:
    method = model.runtime.method  # type: ignore[attr-defined]
    assert isinstance(method, PatchCore)
    return method


def test_a_cleared_false_alarm_is_no_false_alarm_afterwards_and_defects_still_are(tmp_path: Path) -> None:
    model = fitted(normal_samples(tmp_path / "good", 12))
    new = written(tmp_path / "new", [variant(seed) for seed in range(30, 34)])
    assert model.inspect(variant(99)).verdict == "NG"
    before = model.inspect(draw_part(50, defect=1.0)).score
    blemish.update(model, new, accept_ng=True)
    assert model.inspect(variant(99)).verdict == "OK"
    assert model.inspect(draw_part(50, defect=1.0)).score == pytest.approx(before, rel=0.1)
    assert model.inspect(draw_part(50, defect=1.0)).verdict == "NG"


@pytest.mark.parametrize("neighbours", [1, 9])
def test_thresholds_rest_on_old_scores_and_on_each_new_image_without_itself(
    tmp_path: Path, neighbours: int
) -> None:
    model = fitted(normal_samples(tmp_path / "good", 12), coreset_ratio=1.0, neighbours=neighbours)
    old = model.calibration
    images = [variant(seed) for seed in range(30, 33)]
    blemish.update(model, written(tmp_path / "new", images), accept_ng=True)
    method = patchcore(model)
    bank = method.memory_bank
    expected = []
    for number, pixels in enumerate(images, int(method.seen[0]) - 3):
        with torch.no_grad():
            patches = method.embed(torch.from_numpy(model.preprocess(pixels))[None]).flatten(0, 2)
        others = bank.patches[bank.origins[:, 0] != number]
        distances = torch.cdist(patches.double(), others.double())
        worst = int(distances.amin(1).argmax())
        nearest = int(distances[worst].argmin())
        support = torch.cdist(others[nearest][None], others)[0].argsort()[:neighbours]
        weight = 1 - float(torch.softmax(distances[worst, support], 0)[0]) if neighbours > 1 else 1.0
        expected.append(weight * float(distances[worst, nearest]))
    assert model.calibration.images == old.images + 3
    remaining = list(model.calibration.normal_scores)
    for score in old.normal_scores:
        remaining.remove(score)
    assert remaining == pytest.approx(sorted(expected), rel=1e-3)


def test_the_bank_keeps_to_its_budget_and_the_manifest_to_the_facts(tmp_path: Path) -> None:
    model = fitted(normal_samples(tmp_path / "good", 12), bank_size=150)
    new = written(tmp_path / "new", [variant(seed) for seed in range(30, 40)])
    learned_from = model.manifest.data.learned_from
    blemish.update(model, new, accept_ng=True)
    method = patchcore(model)
    assert len(method.memory_bank.patches) == 150
    assert (method.memory_bank.origins[:, 0] >= learned_from).any()
    data = model.manifest.data
    assert data.learned_from == learned_from + 10 == len(data.images) == int(method.seen[0])
    assert data.images[-10:] == tuple(path.name for path in new)
    assert [event.added for event in model.manifest.history.updates] == [10]
    loaded = blemish.load(model.save(tmp_path / "m.blemish"))
    assert loaded.inspect(variant(99)).score == model.inspect(variant(99)).score
    assert loaded.manifest.history.updates == model.manifest.history.updates


def test_a_threshold_set_by_hand_stays(tmp_path: Path) -> None:
    model = fitted(normal_samples(tmp_path / "good", 8))
    model.manifest = blemish.recalibrate(model.save(tmp_path / "m"), image=123.0)
    blemish.update(model, written(tmp_path / "new", [variant(1)]), accept_ng=True)
    assert model.calibration.image_threshold == 123.0


def test_an_image_is_not_learned_twice(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "good", 8)
    model = fitted(samples)
    with pytest.raises(DataError, match=r"000\.png was already learned from or held out\. Leave it out\."):
        blemish.update(model, [samples[0]])


def test_a_method_that_cannot_learn_on_says_so(tmp_path: Path) -> None:
    from tiny_product import Average

    blemish.register_method("average", Average)
    model = tiny_model(tmp_path / "good")
    with pytest.raises(MethodError, match=r"Average cannot be updated\. Fit it again with the new images\."):
        blemish.update(model, written(tmp_path / "new", [variant(1)]), accept_ng=True)
    with pytest.raises(
        MethodError, match=r"Average cannot forget a defect\. Fit it again without the images that show it\."
    ):
        blemish.remove_like(model, written(tmp_path / "new", [variant(1)])[0], (0, 0, 5, 5))


def test_a_defect_among_the_training_images_is_found_after_forgetting_it(tmp_path: Path) -> None:
    samples = normal_samples(tmp_path / "good", 12)
    for sample in samples[3:5]:  # two contaminated ones
        write_image(sample.path, draw_part(int(sample.path.stem), defect=1.0))
    model = fitted(samples, coreset_ratio=0.9)
    (missed,) = written(tmp_path / "new", [draw_part(77, defect=1.0)])
    rows, columns = defect_place((48, 60))
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    score = model.inspect(missed).score
    kept = model.manifest.data.images
    names = set()
    for _ in range(4):
        removal = blemish.remove_like(model, missed, box)
        names |= {name for name, _, _ in removal.origins}
    assert {"003.png", "004.png"} & set(kept) <= names
    assert removal.after.score > 1.3 * score
    assert "the stated false-alarm rate may no longer hold" in removal.summary()
    assert [event.removed > 0 for event in model.manifest.history.updates] == [True] * 4
    for name, x, y in removal.origins:
        assert name in kept
        assert 0 <= x <= 1
        assert 0 <= y <= 1


def test_without_a_box_the_highest_scoring_place_is_taken(tmp_path: Path) -> None:
    model = fitted(normal_samples(tmp_path / "good", 8))
    (missed,) = written(tmp_path / "new", [draw_part(77, defect=1.0)])
    with pytest.raises(
        DataError, match=r"new0\.png is NG already, so no defect is missed\. If a part of it is"
    ):
        blemish.remove_like(model, missed)
    model.manifest = model.manifest.changed(calibration=model.calibration.with_thresholds(image=1e9))
    removal = blemish.remove_like(model, missed)
    assert "how many normal images are called NG is no longer known" in model.calibration.summary()
    assert model.calibration.with_false_alarm_rate(0.5).outdated
    assert 1 <= len(removal.origins) < 30
    assert removal.before.score <= removal.after.score
    assert removal.before.score > removal.typical
    assert "so the model had hardly learned this defect" in removal.summary()
    assert "hardly" not in replace(removal, typical=1e9).summary()


@pytest.mark.parametrize(
    "box", [(0, 0, 61, 10), (50, 0, 20, 10), (0, 40, 10, 10), (0, 0, 0, 5), (-1, 0, 5, 5)]
)
def test_a_box_outside_the_image_is_refused(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    model = fitted(normal_samples(tmp_path / "good", 4))
    (missed,) = written(tmp_path / "new", [draw_part(77)])
    with pytest.raises(
        DataError, match=r"is not within .*new0\.png, which has 60 × 48 pixels\. Give left, top"
    ):
        blemish.remove_like(model, missed, box)


def test_only_the_torch_runtime_learns_on(tmp_path: Path) -> None:
    model = fitted(normal_samples(tmp_path / "good", 4))
    model.runtime = object()  # type: ignore[assignment]
    with pytest.raises(ModelError, match='Load it with runtime="torch"'):
        blemish.update(model, [tmp_path / "a.png"])


def test_a_bank_is_not_emptied() -> None:
    bank = MemoryBank(3)
    bank.fill(torch.eye(3), torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(MethodError, match="No patch would be left in the memory bank"):
        bank.remove(torch.tensor([0, 1, 2]))
    bank.remove(torch.tensor([1]))
    assert len(bank.patches) == 2


def test_nearest_of_others_equals_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, queries = torch.randn(60, 7, generator=generator), torch.randn(40, 7, generator=generator)
    origins = torch.zeros(60, 3, dtype=torch.int64)
    origins[:, 0] = torch.arange(60) % 4
    bank = MemoryBank(2)
    bank.fill(patches, origins)
    distances, indices = bank.nearest_of_others(queries, torch.tensor([2, 3]))
    others = bank.origins[:, 0] < 2
    expected = torch.cdist(queries, bank.patches[others]).min(1)
    assert torch.allclose(distances, expected.values, atol=1e-5)
    assert torch.equal(indices, others.nonzero()[:, 0][expected.indices])
