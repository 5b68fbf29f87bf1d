"""Models whose ONNX graph is damaged or malicious: each gives one clear error."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.errors import ModelError
from blemish.files import sha256_of
from blemish.manifest import GRAPH
from model_folder import Bomb, tamper
from tiny_product import draw_part


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


@pytest.mark.parametrize("name", ["../secret.bin", "{parent}/secret.bin", "secret.bin"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_graph_reads_no_other_file(
    folder: Path, name: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (folder.parent, folder):
        (place / "secret.bin").write_bytes(np.ones(1, np.float32).tobytes())
    monkeypatch.chdir(folder if inside else folder.parent)
    graph(folder, "images", ("score", "anomaly_map"), external=name.format(parent=folder.parent))
    with pytest.raises(ModelError, match="is not a graph that ONNX Runtime can run"):
        blemish.load(folder, runtime="onnx")
