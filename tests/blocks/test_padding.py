import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.padding import mask_grid, split_padding, visible_grid

bands = st.integers(0, 12)


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_split_padding_leaves_whole_images_alone() -> None:
    images = random_images(2, 3, 8, 9)
    filled, visible = split_padding(images)
    assert torch.equal(filled, images)
    assert visible.all()
    assert visible.shape == (2, 1, 8, 9)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 7), width=st.integers(1, 7), top=bands, bottom=bands, left=bands, right=bands)
def test_split_padding_is_numpys_reflection(
    height: int, width: int, top: int, bottom: int, left: int, right: int
) -> None:
    image = random_images(1, 2, height, width)
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(image.numpy(), around, constant_values=np.nan)
    filled, visible = split_padding(torch.from_numpy(padded))
    assert np.array_equal(filled.numpy(), np.pad(image.numpy(), around, mode="reflect"))
    assert np.array_equal(visible.numpy()[:, 0], ~np.isnan(padded[:, 0]))


def test_split_padding_handles_each_image_of_a_batch_by_itself() -> None:
    images = random_images(2, 1, 6, 6)
    images[0, :, 4:] = torch.nan
    images[1, :, :, :3] = torch.nan
    together, _ = split_padding(images)
    alone = torch.cat([split_padding(image[None])[0] for image in images])
    assert torch.equal(together, alone)
    assert torch.equal(together[0, 0, 4], images[0, 0, 2])


def test_cells_outside_never_win() -> None:
    visible = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    visible[..., 8:] = False
    grid = torch.arange(16.0).reshape(1, 4, 4)
    masked = mask_grid(grid, visible)
    assert torch.equal(visible_grid(visible, (4, 4))[0, 0], torch.tensor([True, True, False, False]))
    assert float(masked.max()) == 13.0
    assert float(masked[0, :, 2:].max()) == 0.0
