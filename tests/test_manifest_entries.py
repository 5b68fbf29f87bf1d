"""Each entry of a manifest is checked, and an error names the entry and what it must be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.manifest import (
    FILE,
    WEIGHTS,
)
from example_manifest import Json, as_json, manifest, parse


def changed(part: str, **changes: object) -> Json:
    """A sound part of the manifest with some other entries."""
    return {part: as_json()[part] | changes}


SHORT = "a list of 16 hex digits each"
LOSSES = "a list of objects with finite numbers"
COUNT = "a whole number, not negative"
DAMAGED = r" Copy the model folder again from a place that you trust, or fit again\.$"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": True}, "format must be a whole number from 1 to 6, got True"),
        ({"format": 0}, "format must be a whole number from 1 to 6, got 0"),
        ({"format": -1}, "format must be a whole number from 1 to 6, got -1"),
        ({"format": "1"}, "format must be a whole number from 1 to 6, got '1'"),
        ({"format": 1.0}, "format must be a whole number from 1 to 6, got 1.0"),
        ({"seed": True}, r"seed must be a whole number from 0 to below 2\^64, got True"),
        ({"seed": 1.5}, r"seed must be a whole number from 0 to below 2\^64, got 1.5"),
        ({"seed": -1}, r"seed must be a whole number from 0 to below 2\^64, got -1"),
        ({"seed": 2**64}, rf"seed must be a whole number from 0 to below 2\^64, got {2**64}"),
        ({"blemish": 1}, "blemish must be text, got 1"),
        ({"method": ["pca"]}, r"method must be text, got \['pca'\]"),
        ({"method": None}, "method must be text, got None"),
        ({"arguments": [1]}, r"arguments must be an object that JSON can hold, .*, got \[1\]"),
        ({"preprocess": None}, "preprocess must be a JSON object, got None"),
        ({"calibration": []}, r"calibration must be a JSON object, got \[\]"),
        ({"data": "disc"}, "data must be a JSON object, got 'disc'"),
        (changed("data", hashes="00ff"), f"data.hashes must be {SHORT}, got '00ff'"),
        (changed("data", hashes=5), f"data.hashes must be {SHORT}, got 5"),
        (changed("data", hashes=[["00ff"]]), rf"data.hashes must be {SHORT}, got \['00ff'\]"),
        (changed("data", hashes={"00ff": 1}), f"data.hashes must be {SHORT}, got {{'00ff': 1}}"),
        (changed("data", hashes=["0" * 16, "x" * 16]), f"data.hashes must be {SHORT}, got 'xxxxxxxxxxxxxxxx'"),
        (changed("data", hashes=["0" * 16, "0" * 15]), f"data.hashes must be {SHORT}, got '000000000000000'"),
        (changed("data", hashes=["0" * 16, "0" * 16 + "\n"]), f"data.hashes must be {SHORT}, got "),
        (changed("data", hashes=["0" * 16]), r"data: learned_from 1 and held_out 1 must be the numbers of images \(1 "),
        (changed("data", images=[1]), "data.images must be a list of text, got 1"),
        (changed("data", images=[]), r"data: learned_from 1 and held_out 1 must be .* \(0 names, 1 groups, 2 hashes\)"),
        (changed("data", category=None), "data.category must be text, got None"),
        (changed("data", learned_from="1"), f"data.learned_from must be {COUNT}, got '1'"),
        (changed("data", learned_from=True), f"data.learned_from must be {COUNT}, got True"),
        (changed("data", learned_from=10**30), "data: learned_from 10{30} and held_out 1 must be the numbers of"),
        (changed("data", held_out=-1), f"data.held_out must be {COUNT}, got -1"),
        (changed("data", skipped=0.5), f"data.skipped must be {COUNT}, got 0.5"),
        (changed("data", fingerprint="g" * 64), "data.fingerprint must be 64 hex digits, got 'ggg"),
        (changed("data", fingerprint="AB" * 32), "data.fingerprint must be 64 hex digits, got 'ABAB"),
        (changed("data", more=1), "data.more is unknown"),
        ({"data": {"category": "disc"}}, "data.learned_from is missing; data.held_out is missing; .* and 5 more"),
        ({"history": []}, r"history must be a JSON object, got \[\]"),
        (changed("history", seconds="1"), "history.seconds must be a finite number, not negative, got '1'"),
        (changed("history", seconds=-1), "history.seconds must be a finite number, not negative, got -1"),
        (changed("history", losses=[{"loss": "low"}]), f"history.losses must be {LOSSES}, got 'low'"),
        (changed("history", losses={"loss": 1}), f"history.losses must be {LOSSES}, got "),
        (changed("history", updates=[{"added": 1}]), r"history.updates\[0\].seconds is missing"),
        (
            changed("history", updates=[{"added": -1, "removed": 0, "seconds": 0}]),
            r"history.updates\[0\].added must be a whole number, not negative, got -1",
        ),
        ({"files": [WEIGHTS]}, "files must be the sha256 "),
        ({"files": {WEIGHTS: "../x"}}, r"files must be the sha256 \(64 hex digits\) of .*, got '../x'"),
        ({"extra": 1}, "extra is unknown"),
        ({"x\ny" * 20: 1}, r"'x\\nyx\\nyx.{25,33} is unknown"),
        ({"seed": "7", "extra": 1}, "seed must be .*, got '7'; extra is unknown"),
    ],
)  # fmt: skip
def test_an_entry_of_another_kind_is_refused(changes: Json, text: str) -> None:
    with pytest.raises(ModelError, match=rf"^manifest\.json is damaged: {text}") as error:
        parse(as_json(changes))
    assert re.search(DAMAGED, str(error.value))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("key", as_json())
def test_each_entry_is_required(key: str) -> None:
    values = as_json()
    del values[key]
    with pytest.raises(ModelError, match=rf"^manifest\.json is damaged: {key} is missing\. Copy"):
        parse(values)


@pytest.mark.parametrize("values", [None, [], "manifest", 1, True])
def test_another_thing_than_an_object_is_refused(values: object) -> None:
    with pytest.raises(ModelError, match=r"^manifest\.json is damaged: it must be a JSON object, got "):
        parse(values)


def test_a_newer_format_asks_for_an_update_whatever_else_it_holds() -> None:
    with pytest.raises(ModelError, match=r"has format 7, this blemish reads up to 6\. Update blemish"):
        parse({"format": 7, "unheard": "of"})


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\Windows\\system.ini",
        f"{WEIGHTS}/../x",
        f"./{WEIGHTS}",
        f"sub/{WEIGHTS}",
        f"{WEIGHTS}\0",
        FILE,
        "",
        "weights.pkl",
        "x" * 10_000,
    ],
)
def test_no_file_but_the_two_is_ever_named(name: str) -> None:
    with pytest.raises(
        ModelError, match=r"weights\.safetensors and model\.onnx, the only files of a model, got "
    ) as error:
        parse(as_json({"files": {name: "00"}}))
    assert len(str(error.value)) < 320


@pytest.mark.parametrize(
    ("part", "match"),
    [
        (
            {"preprocess": {**Preprocess().to_dict(), "size": [10**9, 10**9]}},
            "preprocess.size must be .*, whole numbers from 1 to 16384, got 1000000000",
        ),
        (
            {"preprocess": {**Preprocess().to_dict(), "size": [0, 32]}},
            "preprocess.size must be .*, whole numbers from 1 to 16384, got 0",
        ),
        ({"preprocess": {**Preprocess().to_dict(), "resize": ["fit"]}}, "preprocess.resize must be"),
        ({"preprocess": {}}, "preprocess: crop, ignored, resize, size are missing"),
        ({"calibration": {}}, "calibration.normal_scores is missing; .* and 5 more"),
        ({"calibration": {**manifest().calibration.to_dict(), "normal_scores": [2, 1]}}, "small to large"),
        (
            {"calibration": {**manifest().calibration.to_dict(), "normal_peaks": [1]}},
            "calibration: normal_scores, normal_peaks and groups .* equal length",
        ),
        (
            {"calibration": {**manifest().calibration.to_dict(), "normal_scores": []}},
            "at least one finite number",
        ),
        (
            {"calibration": {**manifest().calibration.to_dict(), "image_threshold": "1"}},
            "image_threshold must be a finite number, got '1'",
        ),
        (
            {"calibration": {**manifest().calibration.to_dict(), "false_alarm_rate": 1}},
            "a number from 1e-06 to below 1, got 1",
        ),
    ],
)
def test_parts_are_checked_too(part: Json, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        parse(as_json(part))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def places(values: Json) -> list[tuple[str, ...]]:
    nested = [(key, inner) for key, value in values.items() if isinstance(value, dict) for inner in value]
    return [*((key,) for key in values), *nested]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(places(as_json())), anything)
def test_any_value_anywhere_gives_a_manifest_or_a_model_error(place: tuple[str, ...], value: object) -> None:
    values = as_json()
    target = values
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    try:
        built = parse(values)
    except ModelError:
        return
    if place != ("rules",):  # what has a default may be left out there
        assert built.to_dict()[place[0]] == values[place[0]]
