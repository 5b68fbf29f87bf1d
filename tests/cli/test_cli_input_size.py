"""`blemish fit`: how the size of the input is chosen, and what is said of it before learning."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from blemish.data.preprocess import Preprocess
from blemish.manifest import read_manifest
from blemish.methods import CATALOGUE
from blemish.plugins import find_method

Run = Callable[..., Result]
AUTO = Preprocess(size=(224, 288))
"""For images of 48 × 64 pixels."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), AUTO),
        (("--image-size", "auto"), AUTO),
        (("--pixels", "64"), Preprocess(size=(64, 64))),
        (("--pixels", "100x200", "--resize", "fit"), Preprocess(size=(128, 160), resize="fit")),
        (("--image-size", "auto", "--pixels", "256"), AUTO),
        (("--image-size", "40x56"), Preprocess(size=(40, 56))),
        (("--preset", "own"), Preprocess(size=(96, 96), crop=(64, 64))),
        (("--preset", "own", "--resize", "fit"), Preprocess(size=(96, 96), crop=(64, 64), resize="fit")),
        (("--preset", "own", "--image-size", "auto"), AUTO),
        (("--preset", "own", "--pixels", "256"), AUTO),
        (("--preset", "open"), AUTO),
    ],
)
def test_the_size_is_given_or_the_presets_or_that_of_the_images(
    run: Run, made: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], expected: Preprocess
) -> None:
    from blemish.methods.base import Preset
    from blemish.methods.pca import PCA

    presets = {"own": Preset(preprocess={"size": (96, 96), "crop": (64, 64)}), "open": Preset({"size": 16})}
    monkeypatch.setattr(PCA, "presets", presets)
    result = run("fit", "pca", made / "masked", "-o", "m", *options)
    assert result.exit_code == 0, result.output
    assert read_manifest(Path("m")).preprocess == expected


def test_what_will_be_seen_is_said_first_and_kept(run: Run, made: Path) -> None:
    result = run("fit", "texture", made / "masked", "-o", "m", "--image-size", "auto", "--pixels", "64")
    seen = "one cell covers 3 × 4 pixels; defects from about 12 pixels can be expected to be seen"
    assert result.stdout.splitlines()[0] == (
        f"Images 48 × 64, input 64 × 64 pixels (height × width): {seen}."
    )
    assert f"resolution        {seen}\n" in run("show", "m").stdout


def test_a_size_and_a_number_of_pixels_contradict_each_other(run: Run, made: Path) -> None:
    result = run("fit", "pca", made / "masked", "-o", "m", "--image-size", "64", "--pixels", "128")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: --pixels is for --image-size auto, and a size is given. Leave one of them out.\n"
    )
    for wrong in ("auto", "0", "many"):
        result = run("fit", "pca", made / "masked", "-o", "m", "--pixels", wrong)
        assert result.exit_code == 2
        assert f"{wrong!r} is not a size. Write 256, or 256x320 for height × width." in result.stderr


@pytest.mark.parametrize("name", CATALOGUE)
def test_presets_of_papers_name_their_size(name: str) -> None:
    for preset, settings in find_method(name).presets.items():
        if preset.startswith("paper"):
            assert "size" in settings.preprocess, preset
