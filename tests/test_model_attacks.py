"""Model folders that are damaged or malicious: each gives one clear error."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import blemish
from blemish import plugins
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, MethodError, ModelError
from blemish.files import sha256_of
from blemish.manifest import FILE, GRAPH, WEIGHTS, read_manifest
from blemish.methods.patchcore import PatchCore
from tiny_product import Average, draw_part, normal_samples, tiny_model

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _average_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model, ready to be tampered with."""
    return tiny_model(tmp_path / "parts").save(tmp_path / "model")


def tamper(folder: Path, change: Callable[[Json], None]) -> None:
    """Change the manifest, and make its hashes true again, as an attacker would."""
    path = folder / FILE
    values = json.loads(path.read_text("utf-8"))
    values["files"] = {
        name: sha256_of(folder / name) for name in values["files"] if (folder / name).is_file()
    }
    change(values)
    path.write_text(json.dumps(values), "utf-8")


def nothing(values: Json) -> None:
    pass


def test_a_flipped_bit_is_noticed(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors is not the file that the manifest describes"):
        blemish.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing\. The model folder is incomplete"):
        blemish.load(folder)


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_no_model_there(folder: Path, path: str) -> None:
    (folder / FILE).unlink()
    with pytest.raises(ModelError, match=r"is not a model: it has no manifest\.json\. Name a folder that"):
        blemish.load(folder / path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", f"{WEIGHTS}/../x", "sub/model.onnx"])
def test_no_path_leads_out_of_the_folder(folder: Path, name: str) -> None:
    tamper(folder, lambda values: values["files"].update({name: "00"}))
    with pytest.raises(
        ModelError, match=r"the only files of a model, got .* from a place that you trust, or fit again"
    ):
        blemish.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v.update(format=3, later=1), "has format 3, this blemish reads up to 2. Update"),
        (lambda v: v.update(unheard=1), "unheard is unknown"),
        (lambda v: v.pop("seed"), "seed is missing"),
        (lambda v: v.update(method=5), "method must be text, got 5"),
        (lambda v: v.update(files={}), "holds no weights.safetensors"),
        (lambda v: v["preprocess"].update(size=[10**6, 10**6]), "whole numbers from 1 to 16384"),
        (lambda v: v["calibration"].update(normal_scores=[]), "at least one finite number"),
        (lambda v: v["calibration"].update(normal_peaks=[1.0, 2.0, 3.0]), "must be of equal length"),
        (lambda v: v["arguments"].update(gain=float("nan")), "arguments must be an object that JSON can hold"),
        (lambda v: v["arguments"].update(colour="red"), "Average has no argument 'colour'"),
        (lambda v: v["arguments"].update(gain=-1.0), "gain must be a number above 0, got -1.0"),
        (lambda v: v["arguments"].update(gain="x"), "gain must be a number above 0, got 'x'"),
    ],
)  # fmt: skip
def test_a_false_manifest_is_one_clear_error(
    folder: Path, change: Callable[[Json], None], match: str
) -> None:
    tamper(folder, change)
    with pytest.raises(ModelError, match=match):
        blemish.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v["data"].pop("hashes"), "data.hashes is missing"),
        (lambda v: v["data"].update(hashes=["no hex digits.."] * 8), "data.hashes must be a list of 16 hex digits"),
        (lambda v: v["data"].update(learned_from="7"), "data.learned_from must be a whole number, .*, got '7'"),
        (lambda v: v["data"].update(learned_from=10**12), "data: learned_from 1000000000000 and held_out 1 must be"),
        (lambda v: v["data"].update(images=[]), "data: learned_from 7 and held_out 1 must be the numbers of images"),
        (lambda v: v["calibration"].update(image_threshold="1"), "calibration.image_threshold must be a finite"),
        (lambda v: v["history"].update(updates=["much"]), "history.updates must be a list of objects with added"),
        (lambda v: v.update(method="\ud800"), "it is not valid JSON: "),
        (lambda v: v["data"].update(category="\ud800"), "it is not valid JSON: "),
    ],
)  # fmt: skip
def test_no_manifest_that_lacks_something_is_used_or_rewritten(
    folder: Path, change: Callable[[Json], Any], match: str
) -> None:
    tamper(folder, change)
    before = (folder / FILE).read_bytes()
    for use in (blemish.load, lambda folder: blemish.recalibrate(folder, image=1.0)):
        with pytest.raises(ModelError, match=match):
            use(folder)
    assert (folder / FILE).read_bytes() == before


def test_a_method_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})
    with pytest.raises(MethodError, match=r"No method is called 'average'\..* Choose one of: patchcore"):
        blemish.load(folder)


@pytest.mark.parametrize("name", ["os:system", "blemish.methods.pca:PCA", "../pca", "", "__init__"])
def test_a_method_is_a_name_never_code(folder: Path, name: str) -> None:
    tamper(folder, lambda values: values.update(method=name))
    with pytest.raises(MethodError, match="No method is called"):
        blemish.load(folder)


# Weights


def safetensors(header: Json | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], end: int, kind: str = "F32", start: int = 0) -> Json:
    return {"average": {"dtype": kind, "shape": shape, "data_offsets": [start, end]}}


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was opened",)


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
    (folder / WEIGHTS).write_bytes(content)
    tamper(folder, nothing)
    with pytest.raises(
        ModelError, match=r"weights\.safetensors does not hold the weights of Average with the"
    ):
        blemish.load(folder)


def test_cut_weights_are_one_clear_error(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    for length in (0, 4, 8, 50, len(content) // 2, len(content) - 1):
        (folder / WEIGHTS).write_bytes(content[:length])
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
    original = (base / WEIGHTS).read_bytes()
    header = 8 + struct.unpack("<Q", original[:8])[0]
    content = bytearray(original)
    for place in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        (base / WEIGHTS).write_bytes(content)
        tamper(base, nothing)
        blemish.load(base).inspect(draw_part(1))
    except BlemishError:
        pass
    finally:
        (base / WEIGHTS).write_bytes(original)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_give_no_verdict(folder: Path, value: float) -> None:
    state = load_file(folder / WEIGHTS)
    state["average"][0, 3, 4] = value
    save_file(state, folder / WEIGHTS)
    tamper(folder, nothing)
    with pytest.raises(ModelError, match="NaN or infinite, so there is no verdict"):
        blemish.load(folder).inspect(draw_part(1))


def test_weights_of_another_size_give_no_verdict(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["average"] = torch.zeros(3, 7, 7)
    save_file(state, folder / WEIGHTS)
    tamper(folder, nothing)
    with pytest.raises(ModelError, match=r"The model cannot score these images: .*size of tensor"):
        blemish.load(folder).inspect(draw_part(1))


def test_weights_that_learned_nothing_give_no_verdict(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["learned"] = torch.empty(0)
    save_file(state, folder / WEIGHTS)
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
    state = load_file(folder / WEIGHTS)
    for index in (2**62, -(2**62)):
        state["memory_bank.support"].fill_(index)
        save_file(state, folder / WEIGHTS)
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


# The graph


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"not a graph", pickle.dumps(Bomb())])
def test_a_false_graph_is_one_clear_error(folder: Path, content: bytes) -> None:
    (folder / GRAPH).write_bytes(content)
    tamper(folder, lambda values: values["files"].update({GRAPH: sha256_of(folder / GRAPH)}))
    with pytest.raises(
        ModelError, match=r"model\.onnx is not a graph that ONNX Runtime can run: .* Export the model"
    ):
        blemish.load(folder, runtime="onnx")


def graph(folder: Path, inputs: str, outputs: tuple[str, str], external: str = "") -> None:
    """A graph with other names, or one that wants its numbers from a file of the computer."""
    import onnx
    from onnx import TensorProto, helper

    size: list[str | int | None] = ["n", 3, 32, 40]
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    if external:
        constant.ClearField("float_data")
        constant.data_location = TensorProto.EXTERNAL
        constant.external_data.add(key="location", value=external)
    nodes = [
        helper.make_node("ReduceMax", [inputs], [outputs[0]], keepdims=0),
        helper.make_node("Add", [inputs, "c"], [outputs[1]]),
    ]
    model = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [constant],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(model, opset_imports=opsets, ir_version=9), folder / GRAPH)
    tamper(folder, lambda values: values["files"].update({GRAPH: sha256_of(folder / GRAPH)}))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ("pixels", ("score", "anomaly_map")),
        ("images", ("logits", "anomaly_map")),
        ("images", ("score", "anomaly_map")),
    ],
    ids=["another input", "another output", "other shapes"],
)
def test_a_graph_of_another_kind_gives_no_verdict(
    folder: Path, inputs: str, outputs: tuple[str, str]
) -> None:
    graph(folder, inputs, outputs)
    with pytest.raises(ModelError, match="It is damaged; copy it again or fit again"):
        blemish.load(folder, runtime="onnx").inspect(draw_part(1))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_graph_reads_no_other_file(folder: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = folder.parent / "secret.bin"
    secret.write_bytes(np.ones(1, np.float32).tobytes())
    monkeypatch.chdir(folder)
    graph(folder, "images", ("score", "anomaly_map"), external=str(secret) if absolute else "../secret.bin")
    with pytest.raises(ModelError, match="is not a graph that ONNX Runtime can run"):
        blemish.load(folder, runtime="onnx")


def test_a_refused_model_is_left_as_it_was(folder: Path) -> None:
    tamper(folder, lambda values: values.update(format=9))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for use in (blemish.load, blemish.recalibrate, read_manifest):
        with pytest.raises(ModelError, match="format 9"):
            use(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
