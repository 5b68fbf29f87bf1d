"""FastFlow, EfficientAD and GANomaly of anomalib: training steps, an epoch, inference. Rows of anomalib_side.py."""

# mypy: disable-error-code="import-not-found"

import math
import statistics
import time
from typing import Any

import numpy as np
import torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel
from anomalib.models.image.ganomaly.loss import DiscriminatorLoss, GeneratorLoss
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from benchmarks.peers.peer_networks import load_backbone, scored
from benchmarks.peers.process import (
    GANOMALY_CODE,
    GANOMALY_WIDTH,
    WARM_UP,
    Json,
    random_maps,
    random_picture,
    small_pictures,
    training_step,
    training_steps,
)
from torch import Tensor

SIZE = (256, 256)


def fastflow_step(settings: Json) -> Json:
    """The flows of all layers, trained on maps that are there already."""
    model, maps = new_fastflow(), random_maps(settings["flow_batch"])
    optimizer = torch.optim.Adam(model.fast_flow_blocks.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()

    def loss_of() -> Tensor:
        flown = [flow(x) for flow, x in zip(model.fast_flow_blocks, maps, strict=True)]
        return per_dimension(([z for z, _ in flown], [log for _, log in flown]))

    return training_steps(loss_of, optimizer, settings)


def fastflow_epoch(settings: Json) -> Json:
    """An epoch of the whole model over images in memory; one step before it to warm up."""
    model = new_fastflow()
    load_backbone(model.feature_extractor, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()
    images = torch.from_numpy(np.load(settings["inputs"])["normalised"])
    parts = torch.randperm(len(images)).tensor_split(math.ceil(len(images) / settings["flow_batch"]))

    def step(part: Tensor) -> float:
        return training_step(lambda: per_dimension(model(images[part])), optimizer)

    losses = [step(parts[0])]
    started = time.perf_counter()
    losses += [step(part) for part in parts]
    return {"seconds": time.perf_counter() - started, "losses": losses}


def fastflow_inspect(settings: Json) -> Json:
    """Time the torch model's forward, batch 1; its flows are as they were drawn."""
    model = new_fastflow()
    load_backbone(model.feature_extractor, settings)
    model.eval()
    found = scored(lambda image: float(model(image).pred_score), settings)
    return {
        "seconds": statistics.median(seconds for _, seconds in found),
        "scores": [score for score, _ in found],
    }


def efficientad_step(settings: Json) -> Json:
    """One picture and one for the penalty, both there already; the teacher's weights are as they were drawn."""
    model = EfficientAdModel(model_size=EfficientAdModelSize.S)
    picture = random_picture()
    penalty = picture.flip(3)
    with torch.no_grad():
        features = model.teacher(picture)
        std, mean = torch.std_mean(features, (0, 2, 3), keepdim=True)
        model.mean_std.update({"mean": mean, "std": std})
    learned = [*model.student.parameters(), *model.ae.parameters()]
    # Ten times the library's learning rate, which is ours: it costs no time, and few steps show that it learns.
    optimizer = torch.optim.Adam(learned, lr=1e-3, weight_decay=1e-5)
    model.train()

    def loss_of() -> Tensor:
        losses: tuple[Tensor, Tensor, Tensor] = model(batch=picture, batch_imagenet=penalty)
        return losses[0] + losses[1] + losses[2]

    return training_steps(loss_of, optimizer, settings)


def ganomaly_step(settings: Json) -> Json:
    """A batch of small pictures through the library's model of half its width, with its two losses."""
    model = GanomalyModel((64, 64), 3, GANOMALY_WIDTH, GANOMALY_CODE)
    critic_of, generator_loss, critic_loss = model.discriminator, GeneratorLoss(), DiscriminatorLoss()
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (model.generator, critic_of)
    ]
    images = small_pictures(settings["flow_batch"])
    model.train()
    losses, taken = [], []
    for _ in range(WARM_UP + settings["steps"]):
        started = time.perf_counter()
        padded, fake, first, second = model(images)
        real = critic_of(padded)[0]
        loss = generator_loss(first, second, padded, fake, real, critic_of(fake)[0])
        optimizers[0].zero_grad()
        loss.backward(retain_graph=True)
        optimizers[0].step()
        critics = critic_loss(real, critic_of(fake.detach())[0])
        optimizers[1].zero_grad()
        critics.backward()
        optimizers[1].step()
        losses.append(loss.item())
        critics.item()
        taken.append(time.perf_counter() - started)
    return {"seconds": statistics.median(taken[WARM_UP:]), "losses": losses}


def new_fastflow() -> Any:
    """FastFlow on ResNet-18, as the library has it by default; nothing is downloaded."""
    return FastflowModel(input_size=SIZE, backbone="resnet18", pre_trained=False)


def per_dimension(flown: tuple[list[Tensor], list[Tensor]]) -> Tensor:
    """The library's loss in the unit of ours."""
    loss: Tensor = FastflowLoss()(*flown)
    return loss / sum(z[0].numel() for z in flown[0])


ROWS = {
    "fastflow-step": fastflow_step,
    "fastflow-epoch": fastflow_epoch,
    "fastflow-inspect": fastflow_inspect,
    "efficientad-step": efficientad_step,
    "ganomaly-step": ganomaly_step,
}
