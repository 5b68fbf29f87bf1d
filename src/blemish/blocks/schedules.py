"""Learning-rate schedules: factors of the first learning rate, by the share of training that is done."""

import math


def half_cosine(done: float) -> float:
    """1 at the start, 1/2 half-way, 0 at the end; Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.

    Args:
        done: Share of the training steps that are done, 0 to 1.
    """
    return (1 + math.cos(math.pi * done)) / 2
