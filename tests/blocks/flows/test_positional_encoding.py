import math

import torch

from blemish.blocks.flows.positional_encoding import positional_encoding


def test_position_code_by_hand() -> None:
    code = positional_encoding(16, 3, 5, like=torch.empty(0, dtype=torch.float64))
    assert code.shape == (1, 16, 3, 5)
    for row in range(3):
        for column in range(5):
            for i in range(4):
                frequency = 10000 ** (-2 * i / 8)
                for start, place in ((0, column), (8, row)):
                    sine, cosine = code[0, start + 2 * i : start + 2 * i + 2, row, column].tolist()
                    assert math.isclose(sine, math.sin(place * frequency), abs_tol=1e-12)
                    assert math.isclose(cosine, math.cos(place * frequency), abs_tol=1e-12)


def test_every_place_has_its_own_code() -> None:
    code = positional_encoding(64, 20, 30, like=torch.empty(0))[0].flatten(1).T
    distances = torch.cdist(code, code) + 10 * torch.eye(len(code))
    assert float(distances.min()) > 0.5
