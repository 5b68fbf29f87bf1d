"""The file manifest.json is written and read, and damage to it is one clear error."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import ModelError
from blemish.manifest import (
    FILE,
    FORMAT,
    GRAPH,
    LARGEST,
    WEIGHTS,
    History,
    read_manifest,
    write_manifest,
)
from blemish.model_folder import checked_file
from example_manifest import as_json, manifest, parse


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path)
    assert read_manifest(tmp_path) == manifest()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert "中文" in (tmp_path / FILE).read_text("utf-8")


def test_the_version_and_the_format_are_written(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path)
    values = json.loads((tmp_path / FILE).read_text("utf-8"))
    assert values["format"] == FORMAT == 6
    assert values["blemish"].count(".") == 2


NO_JSON = "arguments must be an object that JSON can hold, without NaN or infinity, got "


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=60) | st.text('{}[]",:0123456789eE+-.tfn', max_size=60).map(str.encode))
def test_any_bytes_give_a_model_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / FILE).write_bytes(content)
    with pytest.raises(ModelError):
        read_manifest(folder)


def one_entry_more(text: str) -> Callable[[], str]:
    return lambda: json.dumps(as_json()).removesuffix("}") + f', "arguments": {text}}}'


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (one_entry_more('{"x": NaN}'), NO_JSON),
        (one_entry_more('{"x": -Infinity}'), NO_JSON),
        (one_entry_more('{"x": 1e999}'), NO_JSON),
        (one_entry_more("9" * 5000), "not valid JSON: number out of range"),
        (one_entry_more("[" * 200_000 + "]" * 200_000), "not valid JSON: recursion limit exceeded"),
        (one_entry_more('{"a":' * 200_000 + "1" + "}" * 200_000), "not valid JSON: recursion limit exceeded"),
        (one_entry_more('{"x": "\\ud800"}'), "not valid JSON: unexpected end of hex escape"),
        (one_entry_more('{"\\ud800": 1}'), "not valid JSON: unexpected end of hex escape"),
        (lambda: json.dumps(as_json())[:-20], "not valid JSON: "),
        (lambda: "", "not valid JSON: EOF while parsing a value"),
        (lambda: "null", "it must be a JSON object"),
    ],
    ids=[
        "nan", "infinity", "overflow", "long number", "deep list", "deep object", "surrogate", "surrogate in a key",
        "cut", "empty", "null",
    ],
)  # fmt: skip
def test_damaged_text_is_one_clear_error(tmp_path: Path, content: Callable[[], str], match: str) -> None:
    (tmp_path / FILE).write_text(content(), "utf-8")
    with pytest.raises(ModelError, match=match) as error:
        read_manifest(tmp_path)
    assert len(str(error.value)) < 500


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(json.dumps(as_json(), ensure_ascii=False).encode("gbk"))
    with pytest.raises(ModelError, match=r"manifest\.json cannot be read as text: 'utf-8' codec"):
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
    with pytest.raises(ValueError, match="losses must be a list of objects with finite numbers, got nan"):
        History(seconds=0.0, losses=({"loss": float("nan")},))
    for hostile in (float("nan"), float("inf"), "\ud800", {1}, object()):
        with pytest.raises(ValueError, match="arguments must be an object that JSON can hold"):
            write_manifest(manifest(arguments={"x": [hostile]}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_arguments_are_kept_as_they_are_read_again() -> None:
    made = manifest(arguments={"layers": (2, (3,)), "name": None})
    assert made.arguments == {"layers": [2, [3]], "name": None}
    assert parse(made.to_dict()) == made


def test_a_file_is_given_only_if_its_content_is_the_promised_one(tmp_path: Path) -> None:
    weights = tmp_path / WEIGHTS
    weights.write_bytes(b"weights")
    promised = manifest(files={WEIGHTS: hashlib.sha256(b"weights").hexdigest(), GRAPH: "00" * 32})
    assert checked_file(tmp_path, promised, WEIGHTS) == weights
    weights.write_bytes(b"Weights")
    with pytest.raises(ModelError, match=r"weights\.safetensors is not the file that the manifest describes"):
        checked_file(tmp_path, promised, WEIGHTS)
    weights.unlink()
    weights.mkdir()
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing"):
        checked_file(tmp_path, promised, WEIGHTS)
    with pytest.raises(ModelError, match=r"model\.0{16}\.onnx is missing"):
        checked_file(tmp_path, promised, GRAPH)
    with pytest.raises(ModelError, match=r"holds no model\.onnx\. Use another runtime"):
        checked_file(tmp_path, manifest(), GRAPH)
