"""`blemish fit --shots N` and several `--auxiliary`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import Result
from torch import Tensor

import blemish
from blemish import plugins
from cli_data import draw_part, write
from tiny_product import Average

Run = Callable[..., Result]


class Comparing(Average):
    """Keeps the number of images of each auxiliary product."""

    auxiliary_use: ClassVar[str] = "comparisons"
    products: ClassVar[list[int]] = []

    def collect(self, batches: Iterable[Tensor]) -> None:
        super().collect(batches)
        self.products[:] = [sum(map(len, product)) for product in self.auxiliary_products]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered, "comparing", Comparing)


def fit(run: Run, made: Path, *options: str | Path) -> Result:
    return run("fit", "comparing", made / "flat", "-o", "m", "--image-size", "32", *options)


def test_shots(run: Run, made: Path) -> None:
    result = fit(run, made, "--shots", "4", "--seed", "3")
    assert result.exit_code == 0
    data = blemish.load("m").manifest.data
    assert (data.learned_from, data.held_out) == (4, 16)
    assert "held out 16" in result.output


@pytest.mark.parametrize("order", [1, -1])
def test_shots_and_hold_out_contradict_each_other(run: Run, made: Path, order: int) -> None:
    given = [("--shots", "4"), ("--hold-out", "0.1")][::order]
    result = fit(run, made, *given[0], *given[1])
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: --shots and --hold-out both say how many images are held out. Give one of them.\n"
    )


def test_shots_that_are_too_many_or_too_few(run: Run, made: Path) -> None:
    result = fit(run, made, "--shots", "20")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "Error: --shots 20 (shots=20) needs normal images of other groups for the thresholds, beside those to learn "
        "from, but there are 20 different ones in 20 groups. Lower --shots (shots=), or add normal images.",
    )
    result = fit(run, made, "--shots", "0")
    assert result.exit_code == 2
    assert "Invalid value for '--shots': 0 is not in the range x>=1." in result.stderr


def test_each_data_set_and_each_category_is_an_auxiliary_product(
    run: Run, made: Path, tmp_path: Path
) -> None:
    for number in range(5):
        write(tmp_path / "others" / f"{number}.png", draw_part(200 + number))
    others = tmp_path / "others"
    assert fit(run, made, "--auxiliary", made / "masked", "--auxiliary", others).exit_code == 0
    assert Comparing.products == [8, 5]
    for product, count in (("nut", 2), ("bolt", 3)):
        for number in range(count):
            path = tmp_path / "several" / product / "train" / "good" / f"{number}.png"
            write(path, draw_part(300 + 10 * count + number))
    again = "--auxiliary", tmp_path / "several", "--auxiliary", made / "masked"
    assert fit(run, made, *again).exit_code == 0
    assert Comparing.products == [3, 2, 8]
    result = fit(run, made, "--auxiliary", made / "nowhere")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        f"Error: {made / 'nowhere'} does not exist. Give the folder of a data set, or its csv file.",
    )


def test_auxiliary_folders_of_images_are_given_one_by_one(run: Run, tmp_path: Path) -> None:
    for name in ("screw", "tile"):
        write(tmp_path / "others" / name / "0.png", draw_part(0))
    write(tmp_path / "parts" / "0.png", draw_part(1))
    result = run("fit", "regad", "parts", "-o", "m", "--auxiliary", "others")
    assert result.exit_code == 1
    inner = Path("others", "screw")
    assert result.stderr == (
        f"Error: others has no known layout, but {inner} holds images. Repeat --auxiliary for each product, e.g. "
        f"--auxiliary {inner}.\n"
    )
    missing = run("fit", "regad", "parts", "-o", "m", "--auxiliary", "gone")
    assert "gone does not exist." in missing.stderr
