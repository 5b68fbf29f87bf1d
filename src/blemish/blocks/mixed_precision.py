"""Mixed precision for training: bfloat16 where the hardware supports it."""

import torch


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 for convolutions and matrix products if `device` supports it natively.

    Otherwise the context changes nothing: a CPU without such instructions emulates them many times slower.
    """
    if device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
