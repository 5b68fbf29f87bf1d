"""The mean and std that networks trained on ImageNet normalise RGB in [0, 1] with; torch is not needed to read them."""

RGB = tuple[float, float, float]

MEAN: RGB = (0.485, 0.456, 0.406)
STD: RGB = (0.229, 0.224, 0.225)
