"""The page for other languages: its program gives the scores and the defective pixels of the library."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blemish
from blemish.opencv import cv2
from markdown_text import code_blocks, read

(PROGRAM,) = code_blocks(read("docs/other-languages.md"), "python")


@pytest.mark.parametrize(
    "preprocess",
    [
        "",
        'preprocess=blemish.Preprocess(size=(64, 200), resize="fit")',
        'preprocess=blemish.Preprocess(size=(150, 70), resize="fit")',
        "preprocess=blemish.Preprocess(size=(64, 200))",
    ],
    ids=lambda argument: re.sub(r"\W+", "-", argument) or "auto",
)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.usefixtures("in_the_world_of_the_docs")
def test_the_program_agrees_with_the_library(preprocess: str, depth: int) -> None:
    if depth == 16:
        pixels = blemish.read_image("part_0815.png")[..., ::-1]
        assert cv2.imwrite("part_0815.png", 257 * pixels.astype(np.uint16) + 19)
    names: dict[str, Any] = {}
    assert PROGRAM.count("data.train)") == 1
    exec(PROGRAM.replace("data.train)", f"data.train, {preprocess})"), names)
    expected = blemish.load("part.blemish", runtime="onnx").inspect(Path("part_0815.png"))
    assert names["score"][0] == pytest.approx(expected.score, rel=1e-6)
    np.testing.assert_allclose(names["seen"], expected.anomaly_map, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(names["defective"], expected.defect_mask)
