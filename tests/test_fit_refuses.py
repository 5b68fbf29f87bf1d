"""What `fit` refuses before it reads an image."""

from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish import plugins
from blemish.data.dataset import Dataset
from blemish.errors import DataError, MethodError
from blemish.methods.pca import PCA
from tiny_product import SMALL, Average, normal_samples


def test_a_learned_method_is_refused_so_that_its_model_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})
    samples = normal_samples(tmp_path, 6)
    method = Average()
    model = blemish.fit(method, samples, preprocess=SMALL)
    before = model.inspect(samples[0].path).score
    with pytest.raises(
        MethodError, match=r"^Average has learned already, and a model may use it\. Give a new one"
    ):
        blemish.fit(method, samples[1:], preprocess=SMALL)
    assert model.inspect(samples[0].path).score == before


@pytest.mark.parametrize("method", [PCA, None, 3])
def test_what_is_no_method_is_refused(method: Any, tmp_path: Path) -> None:
    with pytest.raises(
        MethodError, match=r"^method must be a name or a method such as blemish\.PCA\(\), got "
    ):
        blemish.fit(method, normal_samples(tmp_path, 3))


@pytest.mark.parametrize("images", [Dataset(Path(), "flat", ()), 3, [3], [None]])
def test_what_are_no_images_is_refused(images: Any) -> None:
    with pytest.raises(
        DataError, match=r"^Images are samples or paths, got .*\. Give a list, e\.g\. Dataset\.train"
    ):
        blemish.fit("pca", images)
