"""The 22 views: how many of which kind, and what each does to an image."""

from collections import Counter

import torch

from blemish.blocks.few_shot_views import AS_IT_IS, VIEWS, View


def kind(view: View) -> str:
    changes = {
        "quarter turn": view.angle >= 90,
        "rotated": 0 < abs(view.angle) < 90,
        "shifted": any(view.shift),
        "mirrored": view.mirrored,
        "grey": view.grey,
    }
    return " ".join(name for name, changed in changes.items() if changed) or "as it is"


def test_there_are_22_different_views() -> None:
    assert len(VIEWS) == len(set(VIEWS)) == 22
    assert Counter(map(kind, VIEWS)) == {
        "as it is": 1, "rotated": 8, "shifted": 8, "mirrored": 1, "grey": 1, "quarter turn": 3,
    }  # fmt: skip
    assert sorted(view.angle for view in VIEWS if kind(view) == "rotated") == [
        -45, -33.75, -22.5, -11.25, 11.25, 22.5, 33.75, 45,
    ]  # fmt: skip


def test_what_views_do() -> None:
    image = torch.rand(2, 3, 8, 8)
    assert AS_IT_IS.of(image) is image
    assert torch.equal(View(mirrored=True).of(image), image.flip(3))
    grey = torch.einsum("nchw,c->nhw", image, torch.tensor([0.299, 0.587, 0.114]))
    assert torch.allclose(View(grey=True).of(image), grey[:, None].expand(2, 3, 8, 8), atol=1e-4)
    assert torch.allclose(View(angle=90).of(image), image.rot90(1, (2, 3)), atol=1e-5)
    assert torch.allclose(View(shift=(0.25, 0)).of(image)[..., :-1], image[..., 1:], atol=1e-5)
    for view in VIEWS:
        seen = view.of(image)
        assert seen.shape == image.shape
        assert 0 <= seen.min() <= seen.max() <= 1
