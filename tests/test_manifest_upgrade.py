"""Folders of format 1, made here from those of today: read with the same scores, or refused."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import blemish
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.files import sha256_of
from blemish.manifest import FILE, FORMAT, GRAPH, WEIGHTS, parse_manifest, read_manifest
from blemish.manifest_upgrade import CHANGED, DROPPED, EXACT, upgrade_manifest, upgrade_weights
from blemish.methods import CATALOGUE
from blemish.methods.base import Method
from model_folder import stored
from tiny_product import draw_part, normal_samples

Json = dict[str, Any]

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TINY: Json = {"size": 32, "width": 8, "batch_size": 4}
METHODS: dict[str, Callable[[], Method]] = {
    "patchcore": lambda: blemish.PatchCore(backbone="compact:random", bank_size=40, coreset="streaming"),
    "efficientad": lambda: blemish.EfficientAD(backbone="pdn_small:random", steps=1),
    "anogan": lambda: blemish.AnoGAN(
        **TINY, code=8, search_steps=2, epochs=1, discriminator_learning_rate=3e-4
    ),
    "ganomaly": lambda: blemish.GANomaly(**TINY, code=8, epochs=1),
}
FORMER_ARGUMENTS: dict[str, Callable[[Json], None]] = {
    "patchcore": lambda arguments: arguments.update(coreset="net"),
    "anogan": lambda arguments: arguments.update(
        critic_learning_rate=arguments.pop("discriminator_learning_rate")
    ),
}


@pytest.fixture(scope="module", params=METHODS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of today of each method."""
    folder = tmp_path_factory.mktemp(request.param)
    samples = normal_samples(folder / "good", 6)
    model = blemish.fit(METHODS[request.param](), samples, preprocess=Preprocess(size=(40, 48)))
    return model.save(folder / "m")


def as_format_1(folder: Path, to: Path) -> Path:
    """The folder as it was written before images came in [0, 1] and critics became discriminators."""
    to.mkdir()
    values = json.loads((folder / FILE).read_text("utf-8"))
    state = {
        name.replace("discriminator.", "critic."): tensor
        for name, tensor in load_file(stored(folder)).items()
        if not name.endswith(("normalise.mean", "normalise.std"))
    }
    save_file(state, to / WEIGHTS)
    values["format"] = 1
    del values["resolution"]
    values["preprocess"] |= {"mean": MEAN, "std": STD}
    del values["history"]["updates"]
    values["files"] = {WEIGHTS: sha256_of(to / WEIGHTS)}
    if values["method"] in FORMER_ARGUMENTS:
        FORMER_ARGUMENTS[values["method"]](values["arguments"])
    (to / FILE).write_text(json.dumps(values), "utf-8")
    return to


def change(folder: Path, edit: Callable[[Json], Any]) -> None:
    values = json.loads((folder / FILE).read_text("utf-8"))
    edit(values)
    (folder / FILE).write_text(json.dumps(values), "utf-8")


@pytest.fixture
def old(saved: Path, tmp_path: Path) -> Path:
    return as_format_1(saved, tmp_path / "old")


@pytest.fixture
def old_patchcore(tmp_path: Path) -> Path:
    samples = normal_samples(tmp_path / "good", 6)
    model = blemish.fit(METHODS["patchcore"](), samples, preprocess=Preprocess(size=(40, 48)))
    return as_format_1(model.save(tmp_path / "today"), tmp_path / "old")


def test_the_scores_are_those_of_today(saved: Path, old: Path, tmp_path: Path) -> None:
    today, loaded = blemish.load(saved), blemish.load(old)
    for defect in (0.0, 1.0):
        expected, found = (model.inspect(draw_part(50, defect=defect)) for model in (today, loaded))
        assert found.score == expected.score
        assert (found.anomaly_map == expected.anomaly_map).all()
    assert loaded.manifest.changed(files={}) == today.manifest.changed(files={}, resolution=None)
    written = loaded.save(tmp_path / "new")
    assert read_manifest(written).format == FORMAT
    assert stored(written).read_bytes() == stored(saved).read_bytes()


def test_the_arguments_are_those_of_today(old: Path) -> None:
    before = json.loads((old / FILE).read_text("utf-8"))["arguments"]
    manifest = read_manifest(old)
    assert manifest.format == 1
    assert len(manifest.arguments) == len(before)
    if manifest.method == "patchcore":
        assert (before["coreset"], manifest.arguments["coreset"]) == ("net", "streaming")
    if manifest.method == "anogan":
        assert before["critic_learning_rate"] == manifest.arguments["discriminator_learning_rate"] == 3e-4
        assert "critic_learning_rate" not in manifest.arguments


@pytest.mark.parametrize("method", ["template", "variation", "texture", "pca", "a_plug_in"])
def test_what_learned_from_images_of_another_unit_is_refused(old_patchcore: Path, method: str) -> None:
    change(old_patchcore, lambda values: values.update(method=method))
    text = (
        f"^The model was written in format 1, in which {method} learned from normalised images. Fit again.$"
    )
    for use in (blemish.load, read_manifest, lambda folder: blemish.load(folder, runtime="onnx")):
        with pytest.raises(ModelError, match=text):
            use(old_patchcore)


def test_each_method_of_the_catalogue_is_read_or_refused_on_purpose() -> None:
    later = {"template", "variation", "texture", "pca", "pni", "cpr", "regad", "softpatch", "anomalydino"}
    later |= {"diffusionad"}
    assert {*EXACT, *CHANGED} == set(CATALOGUE) - later


@pytest.mark.parametrize(
    "other",
    [{"mean": [0.5, 0.5, 0.5]}, {"std": [1, 1, 1]}, {"mean": None}, {"std": "x"}, {"mean": [*MEAN, 0.0]}],
)
def test_another_normalisation_is_refused(old_patchcore: Path, other: Json) -> None:
    change(old_patchcore, lambda values: values["preprocess"].update(other))
    with pytest.raises(
        ModelError, match=r"format 1 with its own mean and std in preprocess, .* Fit again\.$"
    ):
        blemish.load(old_patchcore)
    change(old_patchcore, lambda values: values["preprocess"].pop("std"))
    with pytest.raises(ModelError, match=r"with its own mean and std .* Fit again\.$"):
        blemish.load(old_patchcore)


def test_a_transformer_keeps_the_normalisation_it_had() -> None:
    """A new `vit` has a mean of 0.5, but format 1 normalised all images by ImageNet's."""
    names = ["features.normalise.mean", "features.normalise.std", "features.network.w", "mean"]
    state = upgrade_weights(
        1, "patchcore", {"features.network.w": torch.ones(2), "mean": torch.zeros(1)}, names
    )
    assert sorted(state) == sorted(names)
    torch.testing.assert_close(state["features.normalise.mean"], torch.tensor(MEAN).view(3, 1, 1))
    torch.testing.assert_close(state["features.normalise.std"], torch.tensor(STD).view(3, 1, 1))
    assert torch.equal(state["mean"], torch.zeros(1))


def test_weights_of_today_are_left_alone(saved: Path) -> None:
    state = load_file(stored(saved))
    for name in ("normalise.mean", "critic."):
        assert upgrade_weights(FORMAT, "anogan", {name: torch.ones(1)}, state).keys() == {name}
    critic = upgrade_weights(1, "f_anogan", {"critic.0": torch.ones(1)}, ["critic.0"])  # it still has one
    assert critic.keys() == {"critic.0"}


def test_a_graph_is_refused_until_it_is_exported_again(old_patchcore: Path) -> None:
    (old_patchcore / GRAPH).write_bytes(b"takes normalised images")
    digest = sha256_of(old_patchcore / GRAPH)
    change(old_patchcore, lambda values: values["files"].update({GRAPH: digest}))
    text = (
        r"^The graph in .*old was exported in format 1 and takes normalised images\. Export it again: "
        r"blemish\.load\(FOLDER\)\.save\(FOLDER, onnx=True\)\.$"
    )
    with pytest.raises(ModelError, match=text):
        blemish.load(old_patchcore, runtime="onnx")
    loaded = blemish.load(old_patchcore)
    loaded.save(old_patchcore, onnx=True)
    again = blemish.load(old_patchcore, runtime="onnx")
    assert again.inspect(draw_part(50)).score == pytest.approx(loaded.inspect(draw_part(50)).score, rel=1e-3)


def test_thresholds_change_once_the_folder_is_of_today(old_patchcore: Path) -> None:
    before = {path.name: path.read_bytes() for path in old_patchcore.iterdir()}
    with pytest.raises(
        ModelError,
        match=r"was written in format 1, whose manifest cannot be changed without the weights\. Load and",
    ):
        blemish.recalibrate(old_patchcore, image=3.0)
    assert {path.name: path.read_bytes() for path in old_patchcore.iterdir()} == before
    blemish.load(old_patchcore).save(old_patchcore)
    assert blemish.recalibrate(old_patchcore, image=3.0).format == FORMAT
    assert blemish.load(old_patchcore).calibration.image_threshold == 3.0


def test_what_was_learned_after_fitting_is_kept(old_patchcore: Path) -> None:
    events = [{"added": 2, "seconds": 0.5}, {"removed": 3}]
    change(old_patchcore, lambda values: values["history"].update(updates=events))
    first, second = read_manifest(old_patchcore).history.updates
    assert (first.added, first.removed, first.seconds) == (2, 0, 0.5)
    assert (second.added, second.removed, second.seconds) == (0, 3, 0.0)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda v: v.update(arguments=[]), "arguments must be an object that JSON can hold"),
        (lambda v: v.update(method=["patchcore"]), "method must be text"),
        (lambda v: v.pop("preprocess"), "preprocess is missing"),
        (lambda v: v.update(history=None), "history must be a JSON object"),
        (lambda v: v["history"].update(updates=5), "history.updates must be a list"),
        (lambda v: v["history"].update(updates=[5]), r"history.updates\[0\] must be a JSON object"),
        (lambda v: v["data"].pop("hashes"), "data.hashes is missing"),
        (
            lambda v: v["arguments"].update(coreset=float("nan")),
            "arguments must be an object that JSON can hold",
        ),
        (lambda v: v["preprocess"].update(size=[0, 1]), "preprocess.size must be"),
    ],
)
def test_damage_is_named_as_in_a_folder_of_today(
    old_patchcore: Path, edit: Callable[[Json], Any], text: str
) -> None:
    change(old_patchcore, edit)
    with pytest.raises(ModelError, match=text):
        read_manifest(old_patchcore)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_value_anywhere_gives_a_manifest_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.getbasetemp() / "fuzzed_format_1"
    if not base.exists():
        samples = normal_samples(base / "good", 3)
        model = blemish.fit(METHODS["patchcore"](), samples, preprocess=Preprocess(size=(40, 48)))
        as_format_1(model.save(base / "today"), base / "old")
    values = json.loads((base / "old" / FILE).read_text("utf-8"))
    inner = [(key, name) for key, value in values.items() if isinstance(value, dict) for name in value]
    *outer, last = data.draw(st.sampled_from([*((key,) for key in values), *inner]))
    target = values
    for key in outer:
        target = target[key]
    target[last] = data.draw(anything)
    with contextlib.suppress(ModelError):
        parse_manifest(json.dumps(values), base / FILE)


@pytest.mark.parametrize(
    ("method", "name", "value"), [(m, n, v) for m, all_ in DROPPED.items() for n, v in all_.items()]
)
def test_arguments_that_became_constants_are_dropped(method: str, name: str, value: float) -> None:
    values = {
        "format": 1,
        "method": method,
        "arguments": {name: value},
        "preprocess": {"mean": MEAN, "std": STD},
        "history": {},
    }
    assert name not in json.loads(upgrade_manifest(json.dumps(values)))["arguments"]
    values["arguments"] = {name: value + 1}
    with pytest.raises(
        ModelError, match=rf"with {name} other than {value}, which is a constant now\. Fit anew\."
    ):
        upgrade_manifest(json.dumps(values))
