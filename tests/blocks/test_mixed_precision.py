import torch

from blemish.blocks.mixed_precision import mixed_precision


def test_bfloat16_only_where_the_processor_has_it() -> None:
    with mixed_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert product.dtype == (torch.bfloat16 if native else torch.float32)
    assert not torch.is_autocast_enabled("cpu")
