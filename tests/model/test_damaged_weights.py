"""Models whose weights are damaged or malicious: each gives one clear error."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import blemish
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, ModelError
from blemish.manifest import FILE, WEIGHTS
from blemish.methods.patchcore import PatchCore
from model_folder import Bomb, Json, nothing, stored, tamper
from tiny_product import draw_part, normal_samples, tiny_model


def safetensors(header: Json | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], end: int, kind: str = "F32", start: int = 0) -> Json:
    return {"average": {"dtype": kind, "shape": shape, "data_offsets": [start, end]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        safetensors(b"", length=2**40),
        safetensors(b"{", length=1),
        safetensors({}, length=10**6),
        safetensors(b"[" * 100_000 + b"]" * 100_000),
        safetensors(entry([2**40, 2**40], 4), b"\0" * 4),
        safetensors(entry([2**62], 2**64 - 1), b"\0" * 4),
        safetensors(entry([10**9], 4 * 10**9), b"\0" * 4),
        safetensors(entry([1], 8), b"\0" * 4),
        safetensors(entry([-1], 4), b"\0" * 4),
        safetensors(entry([1], 4, "F31"), b"\0" * 4),
        safetensors(entry([1], 8, start=4), b"\0" * 8),
        safetensors(entry([1], 4), b"\0" * 4),
        pickle.dumps(Bomb()),
        b"PK\3\4" + b"\0" * 100,
    ],
    ids=[
        "empty", "seven bytes", "only ff", "header beyond the file", "half a header", "header longer than the file",
        "deep header", "shape overflow", "offset overflow", "4 GB promised", "end beyond the data",
        "negative shape", "unknown type", "hole", "another method's", "pickle", "zip",
    ],
)  # fmt: skip
def test_false_weights_are_one_clear_error(folder: Path, content: bytes) -> None:
    stored(folder).write_bytes(content)
    tamper(folder, nothing)
    with pytest.raises(
        ModelError, match=r"weights\.safetensors does not hold the weights of Average with the"
    ):
        blemish.load(folder)


def test_cut_weights_are_one_clear_error(folder: Path) -> None:
    content = stored(folder).read_bytes()
    for length in (0, 4, 8, 50, len(content) // 2, len(content) - 1):
        stored(folder).write_bytes(content[:length])
        tamper(folder, nothing)
        with pytest.raises(ModelError, match="does not hold the weights"):
            blemish.load(folder)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_bytes_as_weights_give_a_model_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever is overwritten in the header: a model that judges, or an error meant for the user."""
    base = tmp_path_factory.getbasetemp() / "fuzzed"
    if not base.exists():
        tiny_model(tmp_path_factory.mktemp("parts"), 3).save(base)
    original = stored(base).read_bytes()
    header = 8 + struct.unpack("<Q", original[:8])[0]
    content = bytearray(original)
    for place in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        stored(base).write_bytes(content)
        tamper(base, nothing)
        blemish.load(base).inspect(draw_part(1))
    except BlemishError:
        pass
    finally:
        stored(base).write_bytes(original)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_give_no_verdict(folder: Path, value: float) -> None:
    state = load_file(stored(folder))
    state["average"][0, 3, 4] = value
    save_file(state, stored(folder))
    tamper(folder, nothing)
    with pytest.raises(ModelError, match="NaN or infinite, so there is no verdict"):
        blemish.load(folder).inspect(draw_part(1))


def test_weights_of_another_size_give_no_verdict(folder: Path) -> None:
    state = load_file(stored(folder))
    state["average"] = torch.zeros(3, 7, 7)
    save_file(state, stored(folder))
    tamper(folder, nothing)
    with pytest.raises(ModelError, match=r"The model cannot score these images: .*size of tensor"):
        blemish.load(folder).inspect(draw_part(1))


def test_weights_that_learned_nothing_give_no_verdict(folder: Path) -> None:
    state = load_file(stored(folder))
    state["learned"] = torch.empty(0)
    save_file(state, stored(folder))
    tamper(folder, nothing)
    with pytest.raises(BlemishError, match="Average has not learned yet"):
        blemish.load(folder).inspect(draw_part(1))


def test_an_index_beyond_the_memory_bank_gives_no_verdict(tmp_path: Path) -> None:
    method = PatchCore(backbone="compact:random", coreset_ratio=0.5)
    preprocess = Preprocess(size=(32, 32))
    folder = blemish.fit(method, normal_samples(tmp_path / "parts", 4), preprocess=preprocess).save(
        tmp_path / "m"
    )
    blemish.load(folder).inspect(draw_part(1))
    state = load_file(stored(folder))
    for index in (2**62, -(2**62)):
        state["memory_bank.support"].fill_(index)
        save_file(state, stored(folder))
        tamper(folder, nothing)
        with pytest.raises(ModelError, match=r"The model cannot score these images: .*out of"):
            blemish.load(folder).inspect(draw_part(1))


@pytest.mark.parametrize("value", [5, None, [], {"a": 1}, "compact:nothing", [[[]]], "", 1e300])
@pytest.mark.parametrize("name", PatchCore.declared.arguments)
def test_any_argument_gives_a_model_error(tmp_path: Path, name: str, value: object) -> None:
    """Some are refused with their reason; the others do not fit the weights, which are missing here."""
    folder = tmp_path / "m"
    folder.mkdir()
    save_file({"learned": torch.ones(1)}, folder / WEIGHTS)
    arguments = PatchCore(backbone="compact:random").arguments | {name: value}
    manifest = tiny_model(tmp_path / "parts", 2).manifest.to_dict()
    changed = manifest | {"method": "patchcore", "arguments": arguments, "files": {WEIGHTS: ""}}
    (folder / FILE).write_text(json.dumps(changed), "utf-8")
    tamper(folder, nothing)
    with pytest.raises(ModelError, match="does not hold the weights of PatchCore with the arguments"):
        blemish.load(folder)
