import torch

from blemish.blocks.gan.diff_augment import NOISE, diff_augment


def test_pictures_are_shifted_each_for_itself_by_a_sixteenth_at_most() -> None:
    torch.manual_seed(0)
    pictures = torch.zeros(200, 1, 32, 32)
    pictures[:, :, 16, 16] = 100.0
    places = {divmod(int(picture.argmax()), 32) for picture in diff_augment(pictures)[:, 0]}
    assert places == {(y, x) for y in range(14, 19) for x in range(14, 19)}


def test_noise_has_its_deviation_and_is_drawn_anew() -> None:
    torch.manual_seed(0)
    plain = torch.full((4, 3, 32, 32), 0.5)
    first, second = diff_augment(plain), diff_augment(plain)
    assert abs(float((first - plain).std()) - NOISE) < 0.005
    assert not torch.equal(first, second)


def test_gradients_pass_to_every_pixel() -> None:
    pictures = torch.zeros(8, 1, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(diff_augment(pictures).sum(), pictures)
    assert float(gradient.sum()) == 8 * 32 * 32
    assert (gradient[:, :, 2:-2, 2:-2] > 0).all()
