import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.memory.coreset import GreedyCoreset
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.data.cache import RowFile
from blemish.methods import memory_bank
from blemish.methods.memory_bank import SIGMA, Coreset
from blemish.methods.patchcore import PatchCore
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn, update_method

RANDOM = "compact:random"


def learned(**arguments: object) -> PatchCore:
    method = PatchCore(**{"backbone": RANDOM, "coreset_ratio": 0.2, **arguments})  # type: ignore[arg-type]
    learn(method, normal_parts(6))
    return method.eval()


def patches_of(method: PatchCore, image: Tensor) -> Tensor:
    with torch.no_grad():
        return method.embed(image[None])[0]


def test_image_score_equals_equation_7_by_brute_force() -> None:
    """s = (1 - exp(d*) / Σ exp(d_k)) · d* over the nine bank neighbours of the worst patch's neighbour."""
    method = learned()
    image = torch.from_numpy(defective_part(1.0))
    bank = method.memory_bank.patches.double()
    patches = patches_of(method, image).flatten(0, 1).double()
    distances = torch.cdist(patches, bank)
    worst = int(distances.amin(1).argmax())
    neighbour = int(distances[worst].argmin())
    support = torch.cdist(bank[neighbour][None], bank)[0].argsort()[:9]
    exponentials = [math.exp(float(distances[worst, k])) for k in support]
    d = float(distances[worst, neighbour])
    expected = (1 - math.exp(d) / sum(exponentials)) * d
    with torch.no_grad():
        assert float(method(image[None]).score) == pytest.approx(expected, rel=1e-3)


def test_map_is_the_enlarged_and_blurred_distance_to_the_nearest_bank_patch() -> None:
    method = learned()
    image = torch.from_numpy(defective_part(1.0))
    patches = patches_of(method, image)
    grid = (
        torch.cdist(patches.flatten(0, 1), method.memory_bank.patches).amin(1).reshape(1, *patches.shape[:2])
    )
    with torch.no_grad():
        found = method(image[None]).anomaly_map
    assert torch.allclose(found, upsample(grid, (64, 96), SIGMA), rtol=1e-3, atol=1e-3)


def test_arguments_of_the_amazon_preset_give_the_squared_maximum() -> None:
    method = learned(squared=True, neighbours=1, mean_mapped=64)
    image = torch.from_numpy(defective_part(1.0))
    patches = patches_of(method, image)
    assert patches.shape[-1] == 64
    squared = torch.cdist(patches.flatten(0, 1), method.memory_bank.patches).amin(1).square()
    with torch.no_grad():
        prediction = method(image[None])
    assert float(prediction.score) == pytest.approx(float(squared.max()), rel=1e-3)


def test_bank_holds_its_share_of_the_training_patches_and_nothing_else() -> None:
    method = learned(coreset_ratio=0.1)
    with torch.no_grad():
        every = method.embed(torch.from_numpy(normal_parts(6))).flatten(0, 2)
    assert len(method.memory_bank.patches) == round(0.1 * len(every))
    assert float(torch.cdist(method.memory_bank.patches.double(), every.double()).amin(1).max()) < 1e-4


def test_a_training_image_scores_zero_when_every_patch_is_kept() -> None:
    method = learned(coreset_ratio=1.0, neighbours=1)
    with torch.no_grad():
        prediction = method(torch.from_numpy(normal_parts(6))[:1])
    assert float(prediction.score) == pytest.approx(0.0, abs=1e-3)


def test_padding_does_not_enter_the_bank() -> None:
    images = normal_parts(4)
    images[:, :, :32] = np.nan
    method = PatchCore(backbone=RANDOM, coreset_ratio=1.0)
    learn(method, images)
    assert len(method.memory_bank.patches) == 4 * 4 * 12  # half of the 8 × 12 cells of each image


@pytest.mark.parametrize(
    ("coreset", "limits", "selection"),
    [
        ("auto", {}, GreedyCoreset),
        ("auto", {"MAX_GREEDY_PATCHES": 767}, StreamingCoreset),
        ("auto", {"MAX_GREEDY_CHOICES": 19}, StreamingCoreset),
        ("auto", {"free_disk": lambda: 983_039.0}, StreamingCoreset),
        (
            "auto",
            {"MAX_GREEDY_PATCHES": 768, "MAX_GREEDY_CHOICES": 20, "free_disk": lambda: 983_040.0},
            GreedyCoreset,
        ),
        ("greedy", {"MAX_GREEDY_PATCHES": 0, "free_disk": lambda: 0.0}, GreedyCoreset),
        ("streaming", {}, StreamingCoreset),
    ],
)
def test_auto_uses_greedy_within_its_limits(
    coreset: Coreset, limits: dict[str, object], selection: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(memory_bank, name, value)
    used = []
    for kind in (GreedyCoreset, StreamingCoreset):

        def finish(self: Any, finish: Any = kind.finish) -> Any:
            used.append(type(self))
            return finish(self)

        monkeypatch.setattr(kind, "finish", finish)
    method = PatchCore(backbone=RANDOM, bank_size=20, coreset=coreset)
    learn(method, normal_parts(6))  # two batches of 4 · 96 patches of 320 numbers expected
    assert used == [selection]


@pytest.mark.parametrize(("preset", "keeps_start"), [("paper", False), ("amazon", True)])
def test_presets_use_the_selection_of_the_paper_or_of_the_authors_code(
    preset: str, keeps_start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_bank, "MAX_GREEDY_CHOICES", 0)  # "auto" would take the epsilon-net
    method = PatchCore(**{**PatchCore.presets[preset].arguments, "backbone": RANDOM})
    selection = method._selection(1000, 64, RowFile())
    assert isinstance(selection, GreedyCoreset)
    assert selection.keep_start == keeps_start


@pytest.mark.parametrize("preset", ["paper", "amazon"])
def test_presets_build_on_random_weights(preset: str) -> None:
    chosen = PatchCore.presets[preset]
    arguments = {**chosen.arguments, "backbone": "wide_resnet50_2:random"}
    method = PatchCore(**arguments)
    with torch.no_grad():
        width = method.embed(torch.zeros(1, 3, 64, 64)).shape[-1]
    assert width == (1024 if preset == "amazon" else 1536)
    assert chosen.preprocess == {"size": (256, 256), "crop": (224, 224)}


def test_an_update_that_embeds_the_images_twice_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for kept in (memory_bank.KEPT_VALUES, 0):
        monkeypatch.setattr(memory_bank, "KEPT_VALUES", kept)
        method = PatchCore(backbone="compact:random", bank_size=40)
        learn(method, normal_parts(6))
        found.append(
            (*update_method(method, normal_parts(5, seed=3), batch_size=2), method.memory_bank.patches)
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
