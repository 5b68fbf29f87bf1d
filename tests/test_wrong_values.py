"""Wrong seeds, changes of records and nested values are clear errors."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.cli.options import parse_value
from blemish.errors import MethodError, ModelError
from tiny_product import SMALL, normal_samples


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1"])
def test_seed_is_checked_before_training(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(ValueError) as caught:
        blemish.fit("template", normal_samples(tmp_path, 4), preprocess=SMALL, seed=seed)
    assert str(caught.value) == f"The seed must be a whole number from 0 to below 2^64, got {seed!r}."


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "x", None])
def test_seed_of_suspects_is_checked_first(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(ValueError) as caught:
        blemish.suspects(normal_samples(tmp_path, 2), seed=seed)
    assert str(caught.value) == f"The seed must be a whole number from 0 to below 2^64, got {seed!r}."


@pytest.mark.parametrize("wrong", ["x", (64, 64)])
def test_preprocessing_of_suspects_is_checked(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(MethodError, match=r"^preprocess must be a blemish\.Preprocess, such as"):
        blemish.suspects(normal_samples(tmp_path, 2), preprocess=wrong)


@pytest.mark.parametrize("wrong", [blemish.PCA(), blemish.PCA, 3])
def test_method_of_suspects_is_a_name(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(
        MethodError, match=r"^method must be a name, such as 'patchcore', got .*as arguments=\{…\}\.$"
    ):
        blemish.suspects(normal_samples(tmp_path, 2), method=wrong)


@pytest.mark.parametrize("wrong", ["m.blemish", Path("m"), blemish.Model, 3])
def test_a_model_is_a_model(tmp_path: Path, wrong: Any) -> None:
    samples = normal_samples(tmp_path, 2)
    for call in (
        lambda: blemish.suspects(samples, model=wrong),
        lambda: blemish.evaluate(wrong, samples),
        lambda: blemish.update(wrong, samples),
        lambda: blemish.remove_like(wrong, samples[0].path),
    ):
        with pytest.raises(
            ModelError, match=r"^model must be a blemish\.Model, such as blemish\.load\(folder"
        ):
            call()


@pytest.mark.parametrize(
    ("argument", "share"),
    [
        ("false_alarm_rate", None),  # the other one's default
        *product(["false_alarm_rate", "hold_out_share"], [0, 1, 2.0, -0.1, float("nan"), "x", "0.1"]),
    ],
)
def test_shares_are_checked_before_training(tmp_path: Path, argument: str, share: Any) -> None:
    wrong: dict[str, Any] = {argument: share}
    with pytest.raises(ValueError, match="between 0 and 1") as caught:
        blemish.fit("template", normal_samples(tmp_path, 4), preprocess=SMALL, **wrong)
    assert f"got {share!r}." in str(caught.value)


def test_arguments_are_a_dictionary(tmp_path: Path) -> None:
    wrong: Any = ["layers"]
    with pytest.raises(MethodError) as caught:
        blemish.create_method("pca", arguments=wrong)
    assert str(caught.value) == (
        "Arguments are a dictionary of names and values, got list. Give one, e.g. {'layers': (2, 3)}."
    )


def test_largest_seed_is_kept(tmp_path: Path) -> None:
    model = blemish.fit("template", normal_samples(tmp_path, 4), preprocess=SMALL, seed=2**64 - 1)
    assert model.manifest.seed == 2**64 - 1


def test_record_says_how_to_get_another_value() -> None:
    with pytest.raises(AttributeError) as caught:
        setattr(blemish.Preprocess(), "size", (1, 1))  # noqa: B010  # mypy refuses the assignment
    assert (
        str(caught.value) == "Preprocess cannot be changed. Make a copy with another value: changed(size=…)."
    )


def test_deeply_nested_value_is_text() -> None:
    text = "[" * 100_000
    assert parse_value(text) == text
