"""Focal loss for a class much rarer than the other; Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017."""

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Mean of −α · (1 − p)^γ · log p, where p is the probability of the true class.

    Args:
        logits: Before the sigmoid that gives the probability of the rare class.
        targets: 1 for the rare class, else 0; of the same shape.
        alpha: Weight of the rare class; that of the other is 1 − α.
        gamma: How little elements count that are right already; 0 gives the weighted cross-entropy.
    """
    signed = torch.where(targets > 0.5, logits, -logits)
    weight = torch.where(targets > 0.5, alpha, 1 - alpha)
    return -(weight * (-signed).sigmoid() ** gamma * functional.logsigmoid(signed)).mean()
