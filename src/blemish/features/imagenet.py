"""Mean and std with which networks trained on ImageNet normalise RGB in [0, 1]; this module does not import torch."""

RGB = tuple[float, float, float]

MEAN: RGB = (0.485, 0.456, 0.406)
STD: RGB = (0.229, 0.224, 0.225)
