import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.blocks.memory.contrastive import contextual_similarity, pairwise_similarity, squared_distances
from blemish.methods import reconpatch
from blemish.methods.memory_bank import MemoryBankMethod
from blemish.methods.patchcore import PatchCore
from blemish.methods.reconpatch import ReConPatch
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

TINY = {"backbone": "compact:random", "sampled": 64, "epochs": 2, "batch_size": 4, "coreset_ratio": 0.2}


def built(**arguments: object) -> ReConPatch:
    return ReConPatch(**{**TINY, **arguments})  # type: ignore[arg-type]


def started(**arguments: object) -> ReConPatch:
    """A method before its first training step."""
    method = built(**arguments)
    torch.manual_seed(0)
    with torch.no_grad():
        method.collect([torch.from_numpy(normal_parts(4))])
    return method


def prepared(method: ReConPatch, count: int = 4) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return method.prepare(torch.from_numpy(normal_parts(count)))


def test_before_training_the_representation_keeps_distances() -> None:
    method = started()
    images = torch.from_numpy(normal_parts(2))
    with torch.no_grad():
        learned = method.embed(images).flatten(0, 2).double()
        plain = MemoryBankMethod.embed(method, images).flatten(0, 2).double()
    assert learned.shape[1] == 320
    assert torch.allclose(torch.cdist(learned, learned), torch.cdist(plain, plain), rtol=1e-4, atol=1e-4)


def test_a_narrower_representation_keeps_lengths_on_average() -> None:
    method = started(dimensions=64)
    generator = torch.Generator().manual_seed(1)  # not the one that draws the weights
    vectors = torch.randn(500, 320, generator=generator)
    with torch.no_grad():
        shares = (vectors @ method.represent.T).square().sum(1) / vectors.square().sum(1)
    assert method.represent.shape == (64, 320)
    assert float(shares.mean()) == pytest.approx(1.0, abs=0.05)


def test_untrained_scores_equal_patchcore_when_every_patch_is_kept() -> None:
    method = built(epochs=1, learning_rate=1e-12, coreset_ratio=1.0)
    plain = PatchCore(backbone="compact:random", coreset_ratio=1.0)
    for each in (method, plain):
        learn(each, normal_parts(4))
    image = torch.from_numpy(defective_part(1.0)[None])
    with torch.no_grad():
        found, expected = method.eval()(image), plain.eval()(image)
    assert torch.allclose(found.score, expected.score, rtol=1e-3)
    assert torch.allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-2, atol=1e-3)


def test_moving_averages_take_one_hundredth_of_the_trained_weights() -> None:
    method = started(momentum=0.99)
    with torch.no_grad():
        method.represent.add_(1.0)
        method.project.mul_(2.0)
    before = [averaged.clone() for averaged in (method.averaged_represent, method.averaged_project)]
    method.train().training_loss(*prepared(method))
    expected = [
        0.99 * old + 0.01 * new.detach()
        for old, new in zip(before, (method.represent, method.project), strict=True)
    ]
    assert torch.allclose(method.averaged_represent, expected[0], atol=1e-6)
    assert torch.allclose(method.averaged_project, expected[1], atol=1e-6)
    held_out = method.averaged_represent.clone()
    method.eval().training_loss(*prepared(method))  # the loss of held-out images changes no average
    assert torch.equal(method.averaged_represent, held_out)


def test_the_similarity_is_the_weighted_mean_of_both() -> None:
    points = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    squared = squared_distances(points)
    by_distance = pairwise_similarity(squared, 0.3 * squared.mean())
    by_neighbours = contextual_similarity(squared, 5)
    assert torch.equal(built(pairwise_share=1.0).similarity(points), by_distance)
    assert torch.equal(built(pairwise_share=0.0).similarity(points), by_neighbours)
    mixed = built(pairwise_share=0.25).similarity(points)
    assert torch.allclose(mixed, 0.25 * by_distance + 0.75 * by_neighbours)
    assert torch.allclose(built().similarity(100 * points), built().similarity(points), atol=1e-5)


def test_both_layers_are_trained_and_the_averages_get_no_gradient() -> None:
    method = started().train()
    loss = method.training_loss(*prepared(method))
    loss.backward()
    for weight in (method.represent, method.project):
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) > 0
    assert not method.averaged_represent.requires_grad
    assert not method.averaged_project.requires_grad


def test_samples_are_from_the_same_positions_in_all_images_and_never_padding() -> None:
    method = built(sampled=20)
    image, position = torch.meshgrid(torch.arange(4), torch.arange(30), indexing="ij")
    patches = torch.stack([image, position], 2).float()
    inside = torch.ones(4, 30, dtype=torch.bool)
    inside[:, 10:] = False
    inside[2, :5] = False
    found = method._sample(patches, inside)
    positions = {i: set(found[found[:, 0] == i, 1].tolist()) for i in range(4)}
    assert len(positions[0]) == 5
    assert positions[0] == positions[1] == positions[3] <= set(range(10))
    assert positions[2] == {p for p in positions[0] if p >= 5}


def test_training_lowers_the_loss() -> None:
    losses = [epoch["loss"] for epoch in learn(built(epochs=20, learning_rate=1e-3), normal_parts(8)).losses]
    assert len(losses) == 20
    assert losses[-1] < 0.9 * losses[0]


def test_the_learning_rate_follows_half_cosine_decay() -> None:
    factors = [built().learning_rate_factor(done) for done in (0.0, 0.5, 1.0)]
    assert factors == pytest.approx([1.0, 0.5, 0.0])


def test_the_bank_holds_learned_representations() -> None:
    method = built()
    learn(method, normal_parts(6))
    with torch.no_grad():
        every = method.embed(torch.from_numpy(normal_parts(6))).flatten(0, 2).double()
    bank = method.memory_bank.patches.double()
    assert len(bank) == round(0.2 * len(every))
    assert float(torch.cdist(bank, every).amin(1).max()) < 1e-4
    assert (
        float((method.represent @ method.represent.T - torch.eye(320)).detach().abs().max()) > 1e-5
    )  # training changed the weights


def test_padding_does_not_enter_the_bank() -> None:
    images = normal_parts(4)
    images[:, :, :32] = np.nan
    method = built(coreset_ratio=1.0)
    learn(method, images)
    assert len(method.memory_bank.patches) == 4 * 4 * 12


def test_paper_preset_builds_on_random_weights() -> None:
    chosen = ReConPatch.presets["paper"]
    method = ReConPatch(**{**chosen.arguments, "backbone": "wide_resnet50_2:random"})
    assert method.represent.shape == (512, 1536)
    assert (reconpatch.NEIGHBOURS, method.pairwise_share, reconpatch.MARGIN) == (5, 0.5, 1.0)
    assert (method.epochs, method.learning_rate, method.coreset_ratio) == (120, 1e-5, 0.01)
    assert chosen.preprocess == {"size": (256, 256), "crop": (224, 224)}
