"""SimpleNet's official code, from a checkout and in anomalib's environment; started by compare.py.

    PYTHONPATH=. python benchmarks/peers/simplenet_side.py simplenet-inspect SETTINGS

Nothing of blemish is imported here, and nothing of SimpleNet is kept.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

import statistics
import subprocess
import sys
from types import ModuleType
from typing import Any

import torch
from benchmarks.peers.peer_networks import define_torchvision_operators, load_backbone, scored
from benchmarks.peers.process import Json, answer

try:
    import torchvision
except RuntimeError:
    define_torchvision_operators()
    import torchvision

WIDTH = 384
"""Channels of layers 2 and 3 together, so that what follows the backbone is as wide as ours."""


def inspect(settings: Json) -> Json:
    """Time its inference, batch 1: whole, and without what neither score nor map needs."""
    network = new_network(settings)
    segmentor = network.anomaly_segmentor
    convert = segmentor.convert_to_segmentation
    whole = scored(lambda image: score_of(network, image), settings)
    # All features are enlarged to the image's size and copied out, for nothing but to be returned.
    segmentor.convert_to_segmentation = lambda scores, features: convert(scores, features[..., :1])
    found = scored(lambda image: score_of(network, image), settings)
    return {
        "seconds": statistics.median(seconds for _, seconds in found),
        "whole_seconds": statistics.median(seconds for _, seconds in whole),
        "scores": [score for score, _ in found],
        "versions": {"SimpleNet": commit(settings["simplenet"])},
    }


def new_network(settings: Json) -> Any:
    """The network of the authors' `run.sh`, on our backbone and at our size; drawn at random, not trained."""
    log: Any = ModuleType("torch.utils.tensorboard")  # asked for at import, used in training only
    log.SummaryWriter = object
    sys.modules["torch.utils.tensorboard"] = log
    sys.path.insert(0, settings["simplenet"])
    import simplenet

    backbone = torchvision.models.resnet18(weights=None)
    load_backbone(backbone, settings, unread=("layer4", "fc"))  # computed by it all the same
    device = torch.device("cpu")
    network = simplenet.SimpleNet(device)
    network.load(
        backbone=backbone.eval(),
        layers_to_extract_from=["layer2", "layer3"],
        device=device,
        input_shape=(3, 256, 256),
        pretrain_embed_dimension=WIDTH,
        target_embed_dimension=WIDTH,
        patchsize=3,
        meta_epochs=40,
        gan_epochs=4,
        dsc_hidden=1024,
        dsc_layers=2,
        pre_proj=1,
    )
    return network


def score_of(network: Any, image: torch.Tensor) -> float:
    """What the network returns for one image; its map is made, too."""
    scores, _, _ = network._predict(image)
    return float(scores[0])


def commit(checkout: str) -> str:
    """Which one is checked out, if git can tell."""
    found = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    answer({"simplenet-inspect": inspect}, ("torch", "torchvision", "numpy"))
