import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.calibration import Calibration
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.manifest import (
    FILE,
    FORMAT,
    GRAPH,
    LARGEST,
    WEIGHTS,
    Manifest,
    checked_file,
    read_manifest,
    sha256_of,
    write_manifest,
)

Json = dict[str, Any]


def manifest(**changes: Any) -> Manifest:
    values: Json = {
        "method": "pca",
        "arguments": {"components": 4, "名": "中文"},
        "preprocess": Preprocess(size=(32, 48), resize="fit", crop=(16, 16)),
        "calibration": Calibration.from_normal([1.0, 2.0], [3.0, 4.0], [0.5, 0.5], 0.25),
        "seed": 7,
        "data": {"category": "disc", "hashes": ["00ff", "11ee"]},
        "history": {"seconds": 1.5, "losses": [{"loss": 0.25}]},
        "files": {WEIGHTS: "ab" * 32},
    }
    return Manifest(**values | changes)


def as_json(changes: Json | None = None) -> Json:
    values: Json = json.loads(json.dumps(manifest().to_dict()))
    return values | (changes or {})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path)
    assert read_manifest(tmp_path) == manifest()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert "中文" in (tmp_path / FILE).read_text("utf-8")


def test_the_version_and_the_format_are_written(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path)
    values = json.loads((tmp_path / FILE).read_text("utf-8"))
    assert values["format"] == FORMAT == 1
    assert values["blemish"].count(".") == 2


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"format": True}, "format"),
        ({"format": 0}, "format"),
        ({"format": -1}, "format"),
        ({"format": "1"}, "format"),
        ({"format": 1.0}, "format"),
        ({"seed": True}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"blemish": 1}, "blemish"),
        ({"method": ["pca"]}, "method"),
        ({"method": None}, "method"),
        ({"arguments": [1]}, "arguments"),
        ({"preprocess": None}, "preprocess"),
        ({"calibration": []}, "calibration"),
        ({"data": "disc"}, "data"),
        ({"data": {"hashes": "00ff"}}, r"data\.hashes"),
        ({"data": {"hashes": 5}}, r"data\.hashes"),
        ({"data": {"hashes": [["00ff"]]}}, r"data\.hashes"),
        ({"data": {"hashes": {"00ff": 1}}}, r"data\.hashes"),
        ({"history": []}, "history"),
        ({"files": [WEIGHTS]}, "files"),
        ({"extra": 1}, "extra"),
        ({"seed": "7", "extra": 1}, "extra, seed"),
    ],
)
def test_an_entry_of_another_kind_is_refused(changes: Json, entry: str) -> None:
    with pytest.raises(
        ModelError, match=rf"^The manifest's entries {entry} are missing, unknown or of the wrong"
    ):
        Manifest.from_dict(as_json(changes))


@pytest.mark.parametrize("key", as_json())
def test_each_entry_is_required(key: str) -> None:
    values = as_json()
    del values[key]
    with pytest.raises(ModelError, match=f"entries {key} are missing"):
        Manifest.from_dict(values)


@pytest.mark.parametrize("values", [None, [], "manifest", 1, True])
def test_another_thing_than_an_object_is_refused(values: object) -> None:
    with pytest.raises(ModelError, match="The manifest is not a JSON object"):
        Manifest.from_dict(values)


def test_a_newer_format_asks_for_an_update_whatever_else_it_holds() -> None:
    with pytest.raises(ModelError, match=r"has format 2, this blemish reads up to 1\. Update blemish"):
        Manifest.from_dict({"format": 2, "unheard": "of"})


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
    with pytest.raises(ModelError, match=r"a model holds only weights\.safetensors and model\.onnx") as error:
        Manifest.from_dict(as_json({"files": {name: "00"}}))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ({"preprocess": {**Preprocess().to_dict(), "size": [10**9, 10**9]}}, "whole numbers from 1 to 16384"),
        ({"preprocess": {**Preprocess().to_dict(), "size": [0, 32]}}, "whole numbers from 1 to 16384"),
        ({"preprocess": {**Preprocess().to_dict(), "resize": ["fit"]}}, "resize must be"),
        ({"preprocess": {}}, "must have exactly the keys"),
        ({"calibration": {}}, "must hold exactly"),
        ({"calibration": {**manifest().calibration.to_dict(), "normal_scores": [2, 1]}}, "small to large"),
        ({"calibration": {**manifest().calibration.to_dict(), "normal_peaks": [1]}}, "unequal length"),
        ({"calibration": {**manifest().calibration.to_dict(), "normal_scores": []}}, "at least one number"),
        ({"calibration": {**manifest().calibration.to_dict(), "image_threshold": "1"}}, "not a finite"),
        ({"calibration": {**manifest().calibration.to_dict(), "false_alarm_rate": 1}}, "outside 0 to 1"),
    ],
)
def test_parts_are_checked_too(part: Json, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        Manifest.from_dict(as_json(part))


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
        built = Manifest.from_dict(values)
    except ModelError:
        return
    assert built.to_dict()[place[0]] == values[place[0]]


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=60) | st.text('{}[]",:0123456789eE+-.tfn', max_size=60).map(str.encode))
def test_any_bytes_give_a_model_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / FILE).write_bytes(content)
    with pytest.raises(ModelError):
        read_manifest(folder)


def one_entry_more(text: str) -> Callable[[], str]:
    return lambda: json.dumps(as_json()).removesuffix("}") + f', "history": {text}}}'


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (one_entry_more('{"x": NaN}'), "not valid JSON: NaN is not a finite number"),
        (one_entry_more('{"x": -Infinity}'), "not valid JSON: -Infinity is not a finite number"),
        (one_entry_more('{"x": 1e999}'), "not valid JSON: 1e999 is not a finite number"),
        (one_entry_more("9" * 5000), "not valid JSON: Exceeds the limit"),
        (one_entry_more("[" * 200_000 + "]" * 200_000), "not valid JSON: maximum recursion depth"),
        (one_entry_more('{"a":' * 200_000 + "1" + "}" * 200_000), "not valid JSON: maximum recursion depth"),
        (lambda: json.dumps(as_json())[:-20], "not valid JSON: "),
        (lambda: "", "not valid JSON: Expecting value"),
        (lambda: "null", "not a JSON object"),
    ],
    ids=["nan", "infinity", "overflow", "long number", "deep list", "deep object", "cut", "empty", "null"],
)  # fmt: skip
def test_damaged_text_is_one_clear_error(tmp_path: Path, content: Callable[[], str], match: str) -> None:
    (tmp_path / FILE).write_text(content(), "utf-8")
    with pytest.raises(ModelError, match=match) as error:
        read_manifest(tmp_path)
    assert len(str(error.value)) < 500


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(json.dumps(as_json(), ensure_ascii=False).encode("gbk"))
    with pytest.raises(ModelError, match="not valid JSON: 'utf-8' codec"):
        read_manifest(tmp_path)


def test_a_huge_manifest_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(LARGEST + 1)
    monkeypatch.setattr(Path, "read_text", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="larger than 64 MiB"):
        read_manifest(tmp_path)


def test_no_manifest_a_folder_or_a_device_in_its_place_is_no_model(tmp_path: Path) -> None:
    cases = {name: tmp_path / name for name in ("none", "folder", "device", "pipe", "dangling")}
    for case in cases.values():
        case.mkdir()
    (cases["folder"] / FILE).mkdir()
    (cases["device"] / FILE).symlink_to("/dev/zero")
    os.mkfifo(cases["pipe"] / FILE)
    (cases["dangling"] / FILE).symlink_to(tmp_path / "nowhere")
    for folder in (*cases.values(), tmp_path / "absent"):
        with pytest.raises(ModelError, match=r"is not a model: it has no manifest\.json"):
            read_manifest(folder)


def test_a_link_to_another_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0:secret words", "utf-8")
    (tmp_path / FILE).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="not valid JSON") as error:
        read_manifest(tmp_path)
    assert "secret words" not in str(error.value)


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(manifest(), tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_manifest(manifest(seed=8), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {FILE: before}


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(manifest(history={"losses": [{"loss": float("nan")}]}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_is_given_only_if_its_content_is_the_promised_one(tmp_path: Path) -> None:
    weights = tmp_path / WEIGHTS
    weights.write_bytes(b"weights")
    promised = manifest(files={WEIGHTS: hashlib.sha256(b"weights").hexdigest(), GRAPH: "00"})
    assert checked_file(tmp_path, promised, WEIGHTS) == weights
    weights.write_bytes(b"Weights")
    with pytest.raises(ModelError, match=r"weights\.safetensors is not the file the manifest describes"):
        checked_file(tmp_path, promised, WEIGHTS)
    weights.unlink()
    weights.mkdir()
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing"):
        checked_file(tmp_path, promised, WEIGHTS)
    with pytest.raises(ModelError, match=r"model\.onnx is missing"):
        checked_file(tmp_path, promised, GRAPH)
    with pytest.raises(ModelError, match=r"holds no model\.onnx\. Export the model"):
        checked_file(tmp_path, manifest(), GRAPH)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_sha256_of_any_length(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(content[:size])
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content[:size]).hexdigest()
