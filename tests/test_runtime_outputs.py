"""Outputs of a runtime that are no floating-point arrays, as a manipulated graph gives them, are a clear error."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.scoring import Scorer
from blemish.types import Prediction


class Odd:
    """A runtime that gives any outputs."""

    name, device = "odd", "cpu"

    def __init__(self, *outputs: Any) -> None:
        self.outputs = outputs

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        return Prediction(*self.outputs)


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ((np.array(["a"], object), np.zeros((1, 8, 8), np.float32)), "object"),
        (([0.5], np.zeros((1, 8, 8), np.float32)), "list"),
        ((np.zeros(1, np.float32), np.zeros((1, 8, 8), np.complex64)), "complex64"),
        ((np.zeros(1, np.float32), {"a": 1}), "dict"),
    ],
)
def test_outputs_of_another_kind_are_refused(outputs: tuple[Any, Any], kind: str) -> None:
    scorer = Scorer(Odd(*outputs), Preprocess(size=(8, 8)))
    with pytest.raises(ModelError) as caught:
        scorer.score([np.zeros((8, 8, 3), np.uint8)])
    assert str(caught.value) == (
        f"The model gave {kind} values, not floating-point scores and maps. It is damaged; copy it again or fit again."
    )
