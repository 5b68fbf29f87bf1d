import torch

from blemish.blocks.synthetic.colour_jitter import colour_jitter


def test_jitter_changes_one_of_brightness_contrast_and_saturation() -> None:
    torch.manual_seed(0)
    pictures = 0.3 + 0.3 * torch.rand(60, 3, 5, 6)
    changed = colour_jitter(pictures, 0.2)
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    kinds = set()
    for i in range(60):
        centres = {"brightness": torch.zeros(1), "contrast": grey[i].mean(), "saturation": grey[i]}
        for kind, centre in centres.items():
            ratio = (changed[i] - centre) / (pictures[i] - centre)
            ratio = ratio[(pictures[i] - centre).abs() > 0.03]
            if float(ratio.max() - ratio.min()) < 1e-3:
                assert 0.8 <= float(ratio.mean()) <= 1.2
                kinds.add(kind)
    assert kinds == {"brightness", "contrast", "saturation"}


def test_values_stay_in_range() -> None:
    torch.manual_seed(0)
    changed = colour_jitter(torch.rand(30, 3, 8, 8), 0.9)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
