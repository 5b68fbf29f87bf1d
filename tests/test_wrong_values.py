"""Wrong seeds, changes of records and nested values are clear errors."""

from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.cli.options import parse_value
from tiny_product import SMALL, normal_samples


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1"])
def test_seed_is_checked_before_training(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(ValueError) as caught:
        blemish.fit("template", normal_samples(tmp_path, 4), preprocess=SMALL, seed=seed)
    assert str(caught.value) == f"The seed must be a whole number from 0 to below 2^64, got {seed!r}."


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
