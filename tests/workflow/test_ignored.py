"""`fit --ignore`: what is ignored is neither learned nor scored, in any runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray

import blemish
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError
from cli_data import SIZE, defect_mask, draw_part, write

METHODS = ["patchcore", "padim", "variation", "texture"]


def samples(folder: Path, count: int = 12) -> list[Path]:
    return [write(folder / f"{index}.png", draw_part(index)) for index in range(count)]


def fitted(folder: Path, method: str, ignore: NDArray[np.bool_] | None) -> blemish.Model:
    arguments = {"backbone": "compact:random"} if method in ("patchcore", "padim") else {}
    return blemish.fit(
        method,
        samples(folder),
        arguments=arguments,
        preprocess=Preprocess(size=SIZE),
        ignore=ignore,
        group_by="none",
        calibrate="hold-out",
    )


def marked() -> NDArray[np.bool_]:
    """A little more than the defect."""
    mask = np.zeros(SIZE, np.bool_)
    mask[16:34, 26:46] = True
    return mask


@pytest.mark.parametrize("method", METHODS)
def test_a_defect_that_is_ignored_does_not_count(tmp_path: Path, method: str) -> None:
    model = fitted(tmp_path, method, marked())
    good, bad = draw_part(50), draw_part(50, is_defective=True)
    assert model.inspect(bad).score == pytest.approx(model.inspect(good).score, rel=1e-5)
    found = model.inspect(bad)
    inside = found.anomaly_map[defect_mask()]
    assert inside.max() <= found.anomaly_map.max()
    assert fitted(tmp_path, method, None).inspect(bad).score > found.score
    saved = blemish.load(model.save(tmp_path / "m"))
    assert saved.preprocess == model.preprocess
    assert saved.inspect(bad).score == found.score


def test_an_exported_graph_ignores_the_same(tmp_path: Path) -> None:
    model = fitted(tmp_path, "patchcore", marked())
    model.save(tmp_path / "m", onnx=True)
    bad = draw_part(50, is_defective=True)
    onnx = blemish.load(tmp_path / "m", runtime="onnx").inspect(bad)
    assert onnx.score == pytest.approx(model.inspect(bad).score, rel=1e-3)


@pytest.mark.parametrize("resize", ["squash", "fit"])
def test_ignored_pixels_are_nan_in_the_input(resize: str) -> None:
    whole = Preprocess(size=(24, 24), resize=resize)  # type: ignore[arg-type]
    part = whole.ignoring(marked())
    image = draw_part(1)
    inputs, plain = part(image), whole(image)
    ignored = whole.place(marked())
    assert np.isnan(inputs[:, ignored]).all()
    np.testing.assert_array_equal(inputs[:, ~ignored], plain[:, ~ignored])
    assert Preprocess.from_json(part.model_dump_json()) == part
    assert "% ignored" in part.describe()
    assert part.enlarged(2).ignored is None
    assert whole.ignoring(np.zeros(SIZE, np.bool_)) == whole


def test_wrong_masks_are_refused(tmp_path: Path) -> None:
    images = samples(tmp_path / "good")
    with pytest.raises(DataError, match=r"has the shape \(3, 4\), but .*0\.png has \(48, 64\)\."):
        blemish.fit("variation", images, ignore=np.zeros((3, 4), np.bool_))
    with pytest.raises(DataError, match="covers the whole image"):
        blemish.fit("variation", images, ignore=np.ones(SIZE, np.bool_))
    with pytest.raises(DataError, match=r"absent\.png"):
        blemish.fit("variation", images, ignore=tmp_path / "absent.png")
    with pytest.raises(ValueError, match="ignored must have the size of the network's input"):
        Preprocess(size=(24, 24), ignored=Preprocess(size=(48, 64)).ignoring(marked()).ignored)


def test_the_command_line_takes_a_mask(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from blemish.cli.main import blemish as program

    samples(tmp_path / "good")
    write(tmp_path / "mask.png", marked())
    run: Callable[..., Result] = CliRunner().invoke
    arguments = ["fit", "variation", str(tmp_path / "good"), "-o", str(tmp_path / "m"), "--ignore"]
    result = run(program, [*arguments, str(tmp_path / "mask.png")])
    assert result.exit_code == 0, result.output
    assert blemish.load(tmp_path / "m").preprocess.ignored is not None
