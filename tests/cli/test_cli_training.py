"""`blemish fit` for methods that train: interrupted and resumed, logged, diverging, with auxiliary images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

import blemish
from blemish import plugins
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction
from model_folder import stored

Run = Callable[..., Result]


class Brightness(Method):
    """Learns one number, the mean brightness of normal parts."""

    auxiliary_use = "knowing other things"
    batch_size = 3
    stop_at = 0
    """Call at which training is interrupted."""

    epochs: int = argument(3, "Passes.")
    learning_rate: float = argument(0.05, "Of SGD.")
    patience: int = argument(2, "Epochs.")

    def build(self) -> None:
        self.weight = nn.Parameter(torch.zeros(1))
        self.others = 0
        self.calls = 0

    def collect(self, batches: Batches) -> None:
        self.others = sum(len(images) for images in self.auxiliary or ())

    def training_loss(self, images: Tensor) -> Tensor:
        self.calls += self.training
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return (images.mean((1, 2, 3)) - self.weight + 0.01 * torch.randn(1)).square().mean()

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        grid = (images.mean(1) - self.weight).abs()
        return Prediction(grid.flatten(1).amax(1), grid)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._registered, "brightness", Brightness)
    monkeypatch.setattr("blemish.training.loop.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(Brightness, "stop_at", 0)


def fit(run: Run, made: Path, *options: str) -> Result:
    return run("fit", "brightness", made / "flat", "-o", "m", "--image-size", "32", *options)


def weight(folder: str) -> float:
    from safetensors.numpy import load_file

    return float(load_file(stored(Path(folder)))["weight"][0])


def test_fit_says_how_many_of_its_epochs_it_took(
    run: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert " s (3 of 3 epochs), held out " in fit(run, made).output
    monkeypatch.setattr(Brightness, "steps", 2)
    assert " s (1 of 3 epochs), held out " in fit(run, made).output


def test_training_broken_off_goes_on_to_the_same_weights(
    run: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(run, made).exit_code == 0
    expected = weight("m")
    losses = blemish.load("m").manifest.history.losses
    assert [sorted(row) for row in losses] == [["held_out", "loss"]] * 3

    monkeypatch.setattr(Brightness, "stop_at", 9)
    result = fit(run, made, "--log", "csv")
    assert result.exit_code == 130
    assert result.stderr.startswith(
        "The state of the training is kept: continue with the same command and --resume.\n"
    )
    assert weight("m") == expected, "the model that was there stays until another is whole"
    assert sorted(path.name for path in Path().iterdir()) == [".m.unfinished", "m", "m.log"]
    logged = Path("m.log/losses.csv").read_text(encoding="utf-8").splitlines()
    assert logged[0] == "epoch,loss,held_out"
    assert len(logged) == 2, "the second epoch was interrupted"

    monkeypatch.setattr(Brightness, "stop_at", 0)
    result = fit(run, made, "--resume", "--seed", "1")
    assert result.exit_code == 1
    assert "unfinished training in .m.unfinished differs in: groups, images, seed. " in result.stderr
    assert fit(run, made, "--resume", "--log", "csv").exit_code == 0
    assert weight("m") == expected
    assert blemish.load("m").manifest.history.losses == losses
    assert sorted(path.name for path in Path().iterdir()) == ["m", "m.log"]
    logged = Path("m.log/losses.csv").read_text(encoding="utf-8").splitlines()
    assert [float(line.split(",")[1]) for line in logged[1:]] == [row["loss"] for row in losses]


def test_diverging_training_leaves_an_older_model_alone(run: Run, made: Path) -> None:
    assert fit(run, made).exit_code == 0
    before = weight("m")
    result = fit(run, made, "--set", "learning_rate=1e6", "--set", "epochs=50")
    assert result.exit_code == 1
    assert "Error: Training diverged at step " in result.stderr
    assert "Lower the learning rate, now 1e+06, for example with --set learning_rate=100000," in result.stderr
    assert weight("m") == before


def test_auxiliary_images_are_for_methods_with_a_use_for_them(run: Run, made: Path) -> None:
    assert fit(run, made, "--auxiliary", str(made / "masked")).exit_code == 0
    result = run("fit", "variation", made / "flat", "-o", "v", "--auxiliary", made / "masked")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: Variation does not use auxiliary images. Leave them out, or choose another method.\n",
    )


@pytest.mark.parametrize("value", ["2", "a,b", "1,2,3", "-1,2", "nan,1"])
def test_cache_sizes_that_are_none(run: Run, made: Path, value: str) -> None:
    result = fit(run, made, "--cache", value)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        f"Error: Invalid value for '--cache': {value!r} is not MEMORY,DISK in GiB. "
        "Write, for example, 2,20; 0,0 turns the cache off.\n"
    )


def test_the_cache_does_not_change_the_result(run: Run, made: Path) -> None:
    found = []
    for cache in ("1,0", "0,1", "0,0"):
        assert fit(run, made, "--cache", cache).exit_code == 0
        found.append(weight("m"))
    assert found[0] == found[1] == found[2]
