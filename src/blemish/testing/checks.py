"""Checks of the contract of a method, one function each; their argument is a function that builds a new method."""

import inspect
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import MethodError, NotLearnedError
from blemish.methods.base import Method
from blemish.runtimes.export import export_onnx
from blemish.runtimes.onnx import OnnxRuntime
from blemish.runtimes.torch import TorchRuntime, load_method, save_weights
from blemish.testing.parts import DEFECT, SIZE, defective_part, normal_parts, padded, textured
from blemish.training import learn
from blemish.types import Prediction

Make = Callable[[], Method]
Arrays = NDArray[np.float32]

SAME = 1e-4
"""Maximum relative difference between two computations of the same score."""


_LEARNED: WeakKeyDictionary[Make, Method] = WeakKeyDictionary()


def learned(make: Make) -> Method:
    """A method that has learned twelve normal parts; trained once and copied for every check."""
    if make not in _LEARNED:
        _LEARNED[make] = learned_anew(make)
    return deepcopy(_LEARNED[make])


def learned_anew(make: Make) -> Method:
    """A method that has learned twelve normal parts, trained in this call."""
    method = make()
    learn(method, normal_parts(12), held_out=normal_parts(3, seed=1), batch_size=5, seed=0)
    return method


def predict(method: Method, images: Arrays) -> Prediction[Arrays]:
    """Scores and maps of images (N, 3, H, W) as arrays."""
    return TorchRuntime(method).predict(images)


def assert_same(a: Prediction[Arrays], b: Prediction[Arrays], what: str, tolerance: float = SAME) -> None:
    """Assert that scores and maps are equal up to `tolerance`."""
    for name, x, y in zip(a._fields, a, b, strict=True):
        gap = float(np.abs(x - y).max())
        assert gap <= tolerance * max(float(np.abs(x).max()), 1e-6), f"{what}: the {name} differs by {gap}"


def check_arguments_rebuild_the_method(make: Make) -> None:
    """Arguments are declared and keep their values; networks are made in `build`."""
    method = make()
    again = type(method)(**method.arguments)
    assert again.arguments == method.arguments, f"{method.arguments} became {again.arguments}"
    before, after = ({k: v.shape for k, v in m.state_dict().items()} for m in (method, again))
    assert before == after, f"parameters and buffers {before} became {after}"


def check_hooks_see_images_only(make: Make) -> None:
    """No hook takes labels, masks or paths, so that nothing can be selected by them."""
    for hook in ("collect", "prepare", "finish"):
        parameters = list(inspect.signature(getattr(make(), hook)).parameters)
        assert len(parameters) == 1, f"{hook} takes {parameters}; it may take images only"
    method = learned(make)
    prepared = method.prepare(torch.from_numpy(normal_parts(3)))
    for tensor in prepared:
        assert len(tensor) == 3, f"prepare made {len(tensor)} entries of 3 images"
    try:
        inspect.signature(method.training_loss).bind(*prepared)
    except TypeError as error:
        raise AssertionError(f"training_loss must take the tensors of prepare, no more: {error}") from None


def check_not_learned_error(make: Make) -> None:
    """Scoring before learning raises an error that says to call `blemish.fit`."""
    try:
        make().eval()(torch.from_numpy(normal_parts(1)))
    except NotLearnedError as error:
        assert "blemish.fit" in str(error), f"the error does not name blemish.fit: {error}"
    else:
        raise AssertionError("a method that has not learned gave a score")


def check_seed_decides_everything(make: Make) -> None:
    """The same seed gives the same weights, whatever random numbers were drawn before, even by the constructor."""
    torch.rand(1)  # so that the two constructors do not draw the same numbers
    first, second = learned(make), learned_anew(make)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), f"{name} differs between two runs of one seed"


def check_map_has_the_input_size(make: Make) -> None:
    """Scores are (N,), maps (N, H, W) with the input's size, which is not square here; all are finite float32."""
    score, anomaly_map = predict(learned(make), normal_parts(2, seed=9))
    assert score.shape == (2,), f"two images have scores of the shape {score.shape}"
    assert anomaly_map.shape == (2, *SIZE), f"two images of {SIZE} have maps of the shape {anomaly_map.shape}"
    for values in (score, anomaly_map):
        assert values.dtype == np.float32, f"scores and maps must be float32, not {values.dtype}"
        assert np.isfinite(values).all(), "a score or a map is NaN or infinite"


def check_bigger_defect_bigger_score(make: Make) -> None:
    """A stronger defect on the same part never lowers the score, and a strong one raises it above a normal part's."""
    scores = predict(
        learned(make), np.stack([defective_part(strength) for strength in (0.0, 0.5, 1.0)])
    ).score
    assert scores[2] > scores[0], f"a strong defect scores {scores[2]}, the normal part {scores[0]}"
    assert scores[2] >= scores[1] * (1 - SAME), f"scores of an ever stronger defect: {scores.tolist()}"


def check_map_shows_the_defect(make: Make) -> None:
    """The map is higher inside a defect than outside, on average."""
    anomaly_map = predict(learned(make), defective_part(1.0)[None]).anomaly_map[0]
    inside = np.zeros(SIZE, bool)
    inside[DEFECT] = True
    in_defect, elsewhere = anomaly_map[inside].mean(), anomaly_map[~inside].mean()
    assert in_defect > elsewhere, f"the map's mean is {in_defect} in the defect, {elsewhere} elsewhere"


def check_one_by_one_equals_batch(make: Make) -> None:
    """An image's score does not depend on the other images of its batch."""
    method = learned(make)
    images = np.concatenate([normal_parts(4, seed=5), defective_part(1.0)[None]])
    single = [predict(method, images[i : i + 1]) for i in range(len(images))]
    joined = Prediction(*(np.concatenate(values) for values in zip(*single, strict=True)))
    assert_same(predict(method, images), joined, "one by one")


def check_permuting_images_permutes_scores(make: Make) -> None:
    """A score does not depend on statistics of the test images."""
    method = learned(make)
    images = np.concatenate([normal_parts(4, seed=5), defective_part(1.0)[None]])
    order = np.array([3, 0, 4, 2, 1])
    expected = Prediction(*(values[order] for values in predict(method, images)))
    assert_same(expected, predict(method, images[order]), "another order")


def check_scoring_is_pure(make: Make) -> None:
    """Scoring is repeatable, changes no state and draws no random number."""
    method = learned(make)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    generator = torch.get_rng_state()
    images = normal_parts(2, seed=3)
    assert_same(predict(method, images), predict(method, images), "a second time", tolerance=0.0)
    assert torch.equal(torch.get_rng_state(), generator), "scoring drew random numbers"
    changed = [name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"scoring changed {changed}"


def check_padding_never_scores(make: Make) -> None:
    """NaN pixels, around the image or inside it, are no part of it: scores are finite, and peaks lie on the image."""
    method = learned(make)
    edge = SIZE[0] // 8
    image = padded(defective_part(1.0), edge, edge, 0, 0)
    ignored = defective_part(1.0)
    ignored[:, *DEFECT] = np.nan
    for one, what in ((image, "the padding"), (ignored, "the ignored part")):
        score, anomaly_map = predict(method, one[None])
        assert np.isfinite(score).all(), f"{what} makes the score NaN or infinite"
        assert np.isfinite(anomaly_map).all(), f"{what} makes the map NaN or infinite"
        outside = np.isnan(one[0])
        peak, rest = anomaly_map[0][~outside].max(), anomaly_map[0][outside].max()
        assert peak >= rest * (1 - SAME), f"the map's maximum is {rest} on {what}, {peak} on the image"
    normal_score = predict(method, padded(normal_parts(1, seed=5), edge, edge, 0, 0)).score[0]
    score = predict(method, image[None]).score
    assert normal_score < score[0], "with padding, a normal part scores as high as a defective one"


def check_any_size_and_padding(make: Make) -> None:
    """Odd sizes, paddings on different sides and strips narrower than a cell are learned, and scored by numbers."""
    wide, square = (97, 131), (128, 128)
    for size, paddings in (
        (wide, [(0, 0, 0, 0), (0, 0, 0, 0)]),
        (wide, [(20, 10, 0, 0), (0, 0, 30, 15)]),
        (square, [(61, 62, 0, 0)] * 2),
        (square, [(0, 0, 63, 64)] * 2),
    ):
        images = textured(7, size)
        images[:3], images[3:] = padded(images[:3], *paddings[0]), padded(images[3:], *paddings[1])
        method = make()
        learn(method, images[:6], held_out=images[6:], batch_size=3, seed=0)
        strange = np.where(np.isnan(images[6:]), np.nan, np.float32(1))
        score, anomaly_map = predict(method, np.concatenate([images[6:], strange]))
        what = f"images of {size} with paddings {paddings}"
        assert anomaly_map.shape == (2, *size), f"{what} have maps of the shape {anomaly_map.shape}"
        assert np.isfinite(score).all(), f"{what} have the scores {score}"
        assert np.isfinite(anomaly_map).all(), f"{what} have maps with NaN or infinity"


def check_save_load_is_identical(make: Make) -> None:
    """A method loaded from its arguments and weights file gives bit-identical scores."""
    method = learned(make)
    images = normal_parts(2, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_weights(method, path)
        loaded = load_method(type(method), method.arguments, path)
    assert_same(predict(method, images), predict(loaded, images), "after loading", tolerance=0.0)


def check_frozen_parts_do_not_move(make: Make) -> None:
    """Parameters that require no gradient are the same after learning."""
    method = make()
    frozen = {name: p.clone() for name, p in method.named_parameters() if not p.requires_grad}
    learn(method, normal_parts(4), seed=0)
    parameters: dict[str, Tensor] = dict(method.named_parameters())
    moved = [name for name, before in frozen.items() if not torch.equal(before, parameters[name])]
    assert not moved, f"frozen parameters moved: {moved}"


def check_exported_graph_agrees(make: Make) -> None:
    """The ONNX graph gives torch's scores at any batch size, or the method says why it is not exported."""
    method = learned(make)
    if not method.exports:
        assert method.exports_reason.endswith("."), (
            "a method that declines export must say why in exports_reason"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(method, path, SIZE)
        runtime = OnnxRuntime(path)
        for count in (1, 5):
            images = normal_parts(count, seed=count)
            images[0] = np.random.default_rng(0).random(images[0].shape)  # as far from normal as can be
            expected, found = predict(method, images), runtime.predict(images)
            for n in range(count):  # by itself, for beside the strange image's score others are small
                one, other = (Prediction(score[n:][:1], maps[n:][:1]) for score, maps in (expected, found))
                assert_same(one, other, f"ONNX, image {n} of {count}", tolerance=1e-3)


def check_one_training_image(make: Make) -> None:
    """One training image is enough, or the error says how many are needed."""
    method = make()
    try:
        learn(method, normal_parts(1), seed=0)
    except MethodError as error:
        assert "at least" in str(error), f"the error does not say how many images are needed: {error}"
        return
    score = predict(method, normal_parts(1, seed=4)).score
    assert np.isfinite(score).all(), f"after one training image the score is {score}"


CHECKS: tuple[Callable[[Make], None], ...] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)
"""Every check, in the order above."""
