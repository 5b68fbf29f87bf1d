"""Models whose weights are damaged or malicious: each gives one clear error."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import blemish
from blemish.blocks.memory.bank import MemoryBank
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


@pytest.fixture(scope="module")
def with_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a memory bank, as saved."""
    folder = tmp_path_factory.mktemp("bank")
    method = PatchCore(backbone="compact:random", coreset_ratio=0.5)
    preprocess = Preprocess(size=(32, 32))
    model = blemish.fit(method, normal_samples(folder / "parts", 6), preprocess=preprocess)
    return model.save(folder / "m")


WRONG_INDICES: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("out of range", lambda indices: torch.full_like(indices, 2**62)),
    ("out of range", lambda indices: torch.full_like(indices, -(2**62))),
    ("out of range", lambda indices: torch.cat([indices[:-1], -torch.ones_like(indices[:1])])),
    ("of another type or shape", lambda indices: indices[:5].clone()),
    ("of another type or shape", lambda indices: indices[:, :0].clone()),
    ("of another type or shape", lambda indices: indices[:, 0].clone()),
    ("of another type or shape", lambda indices: torch.empty(0, dtype=torch.int64)),
    ("of another type or shape", lambda indices: indices.float() * torch.nan),
    ("of another type or shape", lambda indices: indices.int()),
]


@pytest.mark.parametrize("name", ["support", "origins"])
@pytest.mark.parametrize(("problem", "change"), WRONG_INDICES)
def test_impossible_indices_of_a_memory_bank_are_refused_on_loading(
    with_bank: Path,
    tmp_path: Path,
    name: str,
    problem: str,
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    folder = Path(shutil.copytree(with_bank, tmp_path / "m"))
    blemish.load(folder).inspect(draw_part(1))
    state = load_file(stored(folder))
    state[f"memory_bank.{name}"] = change(state[f"memory_bank.{name}"])
    save_file(state, stored(folder))
    tamper(folder, nothing)
    with pytest.raises(
        ModelError, match=rf"{name} of the memory bank is {problem}.*The model folder is damaged"
    ):
        blemish.load(folder)


def test_damage_that_no_check_knows_is_one_error_wherever_it_is_met(
    with_bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = normal_samples(tmp_path / "parts", 6)  # those that it learned from
    new = normal_samples(tmp_path / "new", 2, first_seed=50)

    def fail(*_: object) -> None:
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr(MemoryBank, "nearest_of_others", fail)
    monkeypatch.setattr(MemoryBank, "remove", fail)
    calls: list[Callable[[blemish.Model], object]] = [
        lambda model: blemish.suspects(parts, model=model),
        lambda model: blemish.update(model, new, accept_ng=True),
        lambda model: blemish.remove_like(model, new[0].path, box=(0, 0, 10, 10)),
    ]
    for call in calls:
        with pytest.raises(
            ModelError, match=r"^The model cannot score these images: index 7 .*It is damaged;"
        ):
            call(blemish.load(with_bank))


def test_an_origin_that_is_no_training_image_is_one_error(with_bank: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(with_bank, tmp_path / "m"))
    state = load_file(stored(folder))
    state["memory_bank.origins"][:, 0] = 1000
    save_file(state, stored(folder))
    tamper(folder, nothing)
    image = normal_samples(tmp_path / "new", 1, first_seed=50)[0].path
    with pytest.raises(ModelError, match=r"It is damaged; copy it again or fit again\."):
        blemish.remove_like(blemish.load(folder), image, box=(0, 0, 10, 10))


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
