"""Methods by name, with presets and arguments."""

from typing import Any

import pytest

import blemish
from blemish import plugins
from blemish.data.preprocess import Preprocess
from blemish.errors import MethodError
from tiny_product import Average


@pytest.fixture(autouse=True)
def _average_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})


def test_a_preset_brings_arguments_and_preprocessing() -> None:
    method = blemish.create_method(
        "patchcore", preset="amazon", arguments={"backbone": "compact:random", "coreset_ratio": 0.5}
    )
    assert method.arguments == {
        "backbone": "compact:random",
        "layers": (2, 3),
        "coreset_ratio": 0.5,
        "bank_size": None,
        "coreset": "approximate",
        "neighbours": 1,
        "patch_size": 3,
        "squared": True,
        "mean_mapped": 1024,
    }
    assert blemish.preset_preprocess("patchcore", "amazon") == Preprocess(size=(256, 256), crop=(224, 224))
    assert blemish.preset_preprocess("pca", None) is None
    assert blemish.preset_preprocess("vae", "texture") is None


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("padm", {}, r"No method is called 'padm'\. Did you mean 'padim'\? Choose one of: patchcore, padim"),
        ("padim", {"preset": "papr"}, r"padim has no preset 'papr'\. Did you mean 'paper'\? It has: paper\."),
        ("AnomalyDINO", {}, r"No method is called 'AnomalyDINO'\. Did you mean 'anomalydino'\? Choose one"),
        (
            "average",
            {"preset": "paper"},
            r"average has no presets, but 'paper' was asked for\. Leave the pre",
        ),
        (
            "average",
            {"arguments": {"gian": 2}},
            r"Average has no argument 'gian'\. Did you mean 'gain'\? It has: gain\.",
        ),
        (
            "average",
            {"arguments": {"gain": -1.0}},
            r"Average: gain must be a number above 0, got -1\.0\. The default is 1\.0\.",
        ),
        (
            "average",
            {"arguments": {"gain": "x"}},
            r"Average: gain must be a number above 0, got 'x'\.",
        ),
        (
            "patchcore",
            {"arguments": {"backbone": 5}},
            r"PatchCore: backbone must be text, got 5\. The default is 'compact'\.",
        ),
        (
            "patchcore",
            {"arguments": {"coreset_ratio": 2.0}},
            r"coreset_ratio must be a number in \(0, 1\], got 2\.0",
        ),
    ],
)
def test_a_method_that_cannot_be_built_says_why(name: str, options: Any, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        blemish.create_method(name, **options)
