import torch

from blemish.blocks.synthetic.sensor import lighten, salt_and_pepper


def test_lightness_is_one_factor_of_each_image() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 4, 4) * 0.5 + 0.1
    factors = lighten(images, 0.1) / images
    assert torch.allclose(factors, factors[:, :1, :1, :1].expand_as(factors), atol=1e-5)
    assert 0.9 <= float(factors.min()) < 0.92
    assert 1.08 < float(factors.max()) <= 1.1 + 1e-5


def test_lightened_images_stay_in_range() -> None:
    assert float(lighten(torch.ones(32, 3, 2, 2), 0.5).max()) == 1


def test_salt_and_pepper_change_a_small_share_of_the_pixels_to_black_or_white() -> None:
    torch.manual_seed(0)
    images = torch.full((32, 3, 50, 50), 0.5)
    found = salt_and_pepper(images, 0.1)
    changed = found != images
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert set(found[changed].tolist()) == {0.0, 1.0}
    shares = changed.float().mean((1, 2, 3))
    assert 0.03 < float(shares.mean()) < 0.07
    assert float(shares.max()) < 0.13
