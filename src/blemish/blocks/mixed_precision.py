"""Numbers of 16 bits in training, where the hardware computes with them."""

import torch


def mixed_precision(device: torch.device) -> torch.autocast:
    """A context in which convolutions and products compute in bfloat16 if `device` does so natively.

    Elsewhere it changes nothing: a CPU without such instructions would emulate them, many times slower.
    """
    if device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
