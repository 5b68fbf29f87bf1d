import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.methods.anogan import AnoGAN
from blemish.runtimes.torch import TorchRuntime
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

TINY = {
    "size": 32,
    "width": 8,
    "code": 8,
    "search_steps": 5,
    "learning_rate": 2e-3,
    "epochs": 4,
    "batch_size": 4,
}


def build(**arguments: object) -> AnoGAN:
    return AnoGAN(**{**TINY, **arguments})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned() -> AnoGAN:
    method = build()
    learn(method, normal_parts(6))
    return method.eval()


def like(method: AnoGAN, **arguments: object) -> AnoGAN:
    """The same networks with other arguments of the search."""
    other = build(**arguments)
    state = method.state_dict()
    state["starts"] = state["starts"][: other.restarts]
    other.load_learned(state)
    return other.eval()


def generated_images(method: AnoGAN) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        images: Tensor = method.generator(torch.rand(4, 8, 1, 1, generator=generator) * 2 - 1)
    return images


def search_scores(method: AnoGAN, images: Tensor) -> Tensor:
    scores = method.compare(images)[1]
    assert scores is not None
    return scores


def losses_at_the_start(method: AnoGAN, images: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = method.discriminator.features(images)
        return method.search_losses(method.starts[:1].expand(len(images), -1, 1, 1), images, features)


def test_the_search_finds_generated_images(learned: AnoGAN) -> None:
    method = like(learned, search_steps=150, restarts=1)
    images = generated_images(method)
    first = losses_at_the_start(method, images)
    assert float((search_scores(method, images) / first).max()) < 0.05


def test_the_search_finds_neither_noise_nor_anything_in_two_steps(learned: AnoGAN) -> None:
    method = like(learned, search_steps=150, restarts=1)
    noise = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert float((search_scores(method, noise) / losses_at_the_start(method, noise)).min()) > 0.5
    short = like(learned, search_steps=2, restarts=1)
    images = generated_images(short)
    assert float((search_scores(short, images) / losses_at_the_start(short, images)).min()) > 0.5


def test_the_score_is_the_hand_summed_l1_terms(learned: AnoGAN) -> None:
    method = like(learned, restarts=1)
    generated: list[Tensor] = []
    hook = method.generator.register_forward_hook(
        lambda module, given, result: generated.append(result.detach())
    )
    images = method.network_images(torch.from_numpy(normal_parts(3, seed=2)))
    errors, scores = method.compare(images)
    hook.remove()
    assert scores is not None
    found = generated[-1]
    with torch.no_grad():
        features, found_features = (
            method.discriminator.features(p).double().numpy() for p in (images, found)
        )
    for row in range(3):
        pixels = np.abs(images[row].double().numpy() - found[row].double().numpy())
        others = np.abs(features[row] - found_features[row])
        assert pixels.size == 3 * 32 * 32
        assert others.size == 32 * 4 * 4
        assert float(scores[row]) == pytest.approx(0.9 * pixels.sum() + 0.1 * others.sum(), rel=1e-5)
        np.testing.assert_allclose(errors[row].numpy(), pixels.mean(0), rtol=1e-4, atol=1e-6)


def test_scoring_changes_no_weight_and_leaves_no_gradient(learned: AnoGAN) -> None:
    before = {name: tensor.clone() for name, tensor in learned.state_dict().items()}
    learned.zero_grad()  # what training left
    images = normal_parts(2, seed=3)
    scored = TorchRuntime(learned).predict(images)  # in inference mode
    for name, tensor in learned.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with torch.no_grad():
        again = learned(torch.from_numpy(images))
    with_gradients = learned(torch.from_numpy(images))
    for other in (again, with_gradients):
        assert not other.score.requires_grad
        assert not other.anomaly_map.requires_grad
        np.testing.assert_array_equal(other.score.numpy(), scored.score)
        np.testing.assert_array_equal(other.anomaly_map.numpy(), scored.anomaly_map)
    assert all(parameter.grad is None for parameter in learned.parameters())


def test_the_best_of_several_searches_counts(learned: AnoGAN) -> None:
    images = learned.network_images(torch.from_numpy(normal_parts(3, seed=2)))
    starts = torch.rand(3, 8, 1, 1, generator=torch.Generator().manual_seed(5)) * 2 - 1
    several = build(restarts=3)
    several.load_learned({**learned.state_dict(), "starts": starts})
    errors, scores = several.eval().compare(images)
    single = []
    for start in starts:
        method = build(restarts=1)
        method.load_learned({**learned.state_dict(), "starts": start[None]})
        single.append(method.eval().compare(images))
    each = torch.stack([s for _, s in single if s is not None])  # (restarts, images)
    assert scores is not None
    assert torch.allclose(scores, each.amin(0), rtol=1e-4)
    for row, best in enumerate(each.argmin(0).tolist()):
        assert torch.allclose(errors[row], single[best][0][row], rtol=1e-3, atol=1e-4)


def test_real_and_generated_images_are_augmented_for_the_discriminator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.Tensor] = []

    def blank(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return 0 * images

    monkeypatch.setattr("blemish.methods.anogan.diff_augment", blank)
    method = build()
    method.collect([])
    views = torch.rand(4, 3, 32, 32) * 2 - 1
    losses = method.train().training_loss(views)
    assert len(seen) == 3
    assert torch.equal(seen[0], views)
    assert torch.equal(seen[1], seen[2])
    assert not seen[1].requires_grad
    assert seen[2].requires_grad
    assert float(losses["discriminator"].detach()) == pytest.approx(
        math.log(2), rel=0.2
    )  # all images look the same to it


def test_losses_are_the_cross_entropies_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.anogan.mixed_precision", lambda device: nullcontext())
    monkeypatch.setattr("blemish.methods.anogan.diff_augment", lambda images: images)
    torch.manual_seed(0)
    method = build()
    method.collect([])
    views = torch.rand(4, 3, 32, 32) * 2 - 1
    method.train()
    torch.manual_seed(1)
    with torch.no_grad():
        generated = method.generator(torch.rand(4, 8, 1, 1) * 2 - 1)
        real, fake = method.discriminator(views).sigmoid(), method.discriminator(generated).sigmoid()
    torch.manual_seed(1)
    losses = method.training_loss(views)
    assert float(losses["generator"].detach()) == pytest.approx(-float(fake.log().mean()), rel=1e-5)
    assert float(losses["discriminator"].detach()) == pytest.approx(
        -float(real.log().mean() + (1 - fake).log().mean()) / 2, rel=1e-5
    )
    assert set(gradients(losses["discriminator"], method.generator)) == {None}
    assert None not in gradients(losses["discriminator"], method.discriminator)
    assert None not in gradients(losses["generator"], method.generator)


def gradients(loss: Tensor, network: nn.Module) -> list[float | None]:
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return [None if each is None else float(each.abs().max()) for each in found]


def test_codes_are_uniformly_distributed_and_starts_are_saved(learned: AnoGAN) -> None:
    torch.manual_seed(0)
    codes = learned.random_codes(4000)
    assert codes.shape == (4000, 8, 1, 1)
    assert -1 <= float(codes.min()) < -0.99 < 0.99 < float(codes.max()) <= 1
    assert float(codes.std()) == pytest.approx(1 / 3**0.5, rel=0.02)
    assert "starts" in learned.state_dict()
    assert learned.starts.shape == (2, 8, 1, 1)
    assert float(learned.starts.abs().min()) > 0


def test_batch_norms_hold_the_statistics_of_real_and_generated_images(
    learned: AnoGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[int, list[Tensor]] = {}

    def note(batches: list[Tensor], network: nn.Module) -> None:
        given[id(network)] = [batch.clone() for batch in batches]

    monkeypatch.setattr("blemish.methods.anogan.update_bn", note)
    images = torch.from_numpy(normal_parts(6))
    with torch.no_grad():
        learned.finish([images[:4], images[4:]])
        codes, seen = given[id(learned.generator)], given[id(learned.discriminator)]
        assert [len(batch) for batch in codes] == [3, 3]
        assert torch.equal(torch.cat(seen[:2]), learned.network_images(images))
        assert torch.allclose(torch.cat(seen[2:]), learned.generator(torch.cat(codes)), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_finishing_keeps_the_mode_of_every_network(training: bool) -> None:
    method = build()
    method.collect([])
    with torch.no_grad():
        method.train(training).finish([torch.from_numpy(normal_parts(6))])
    assert {module.training for module in method.modules()} == {training}


def test_a_defective_part_scores_above_new_normal_parts(learned: AnoGAN) -> None:
    images = np.concatenate([normal_parts(6, seed=9), defective_part(1.0)[None]])
    scores = TorchRuntime(like(learned, search_steps=30)).predict(images).score
    normal = scores[:-1]
    assert scores[-1] > normal.mean() + 10 * normal.std()


def test_the_score_may_be_the_maps_maximum(learned: AnoGAN) -> None:
    method = like(learned, score="pixels")
    score, anomaly_map = TorchRuntime(method).predict(normal_parts(2, seed=3))
    np.testing.assert_array_equal(score, anomaly_map.max((1, 2)))


def test_training_and_scoring_on_windows() -> None:
    method = build(patches=True, standardise=True, epochs=1)
    learn(method, normal_parts(3))
    score, anomaly_map = TorchRuntime(method).predict(normal_parts(2, seed=3))
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 64, 96)


def test_learning_rates_follow_half_cosine_decay() -> None:
    factors = [AnoGAN().learning_rate_factor(done) for done in (0.0, 0.5, 1.0)]
    assert factors == pytest.approx([1.0, 0.5, 0.0])
