"""FastFlow, EfficientAD and GANomaly of blemish: training steps and an epoch. Rows of blemish_side.py."""

import time
from collections.abc import Callable, Mapping
from typing import cast
from unittest import mock

import numpy as np
import torch
from benchmarks.peers.process import (
    GANOMALY_CODE,
    GANOMALY_WIDTH,
    WARM_UP,
    Json,
    convolution_seconds,
    random_maps,
    random_picture,
    small_pictures,
    training_steps,
)

import blemish
from blemish.blocks.flows.flow import Flow, MapNorm
from blemish.blocks.mixed_precision import mixed_precision
from blemish.training import learn


def fastflow_step(settings: Json) -> Json:
    """The flows of all layers, trained on maps that are there already; again in float32."""
    return in_both_precisions(flow_steps, "blemish.blocks.flows.flow.mixed_precision", settings)


def flow_steps(settings: Json) -> Json:
    """Steps of new flows."""
    method, maps = new_fastflow("resnet18:random", settings), random_maps(settings["flow_batch"])
    for norm, flow, x in zip(method.norms, method.flows, maps, strict=True):
        channels = x.shape[1]
        cast("MapNorm", norm).reset_parameters(x.shape[1:], torch.zeros(channels), torch.ones(channels))
        cast("Flow", flow).reset_parameters()
    method.train()
    found = training_steps(lambda: method.training_loss(*maps), method.optimizers(), settings)
    return {
        **found,
        "convolution_seconds": convolution_seconds(lambda: method.training_loss(*maps).backward()),
    }


def fastflow_epoch(settings: Json) -> Json:
    """The second of two epochs over images in memory, whose features were computed before the first."""
    method = new_fastflow(settings["backbone"], settings)
    epochs: list[tuple[float, float]] = []
    phases: dict[str, float] = {}

    def watch(epoch: int, losses: Mapping[str, float]) -> None:
        epochs.append((time.perf_counter(), losses["loss"]))

    def progress(phase: str, done: int, total: int | None, note: str = "", /) -> None:
        phases[phase] = time.perf_counter()

    learn(method, list(np.load(settings["inputs"])["images"]), watch=watch, progress=progress)
    (first, _), (second, _) = epochs
    return {
        "seconds": second - first,
        "preparing_seconds": phases["preparing"] - phases["collecting"],
        "losses": [loss for _, loss in epochs],
        "precision": precision(),
    }


def efficientad_step(settings: Json) -> Json:
    """One picture, its teacher's features being there already; again in float32."""
    return in_both_precisions(efficientad_steps, "blemish.methods.efficientad.mixed_precision", settings)


def efficientad_steps(settings: Json) -> Json:
    """Steps of a new student and autoencoder."""
    method = blemish.EfficientAD()
    picture = random_picture()
    with torch.no_grad():
        method.eval().collect([picture])
        prepared = [tensor.contiguous() for tensor in method.prepare(picture)]
    method.train()
    return training_steps(lambda: method.training_loss(*prepared), method.optimizers(), settings)


def ganomaly_step(settings: Json) -> Json:
    """A batch of small pictures, through the one training loop; again in float32."""
    return in_both_precisions(ganomaly_steps, "blemish.methods.ganomaly.mixed_precision", settings)


def ganomaly_steps(settings: Json) -> Json:
    """Epochs of one step each."""
    pictures = (small_pictures(settings["flow_batch"]) + 1) / 2
    method = blemish.GANomaly(
        width=GANOMALY_WIDTH, code=GANOMALY_CODE, epochs=WARM_UP + settings["steps"], batch_size=len(pictures)
    )
    times, losses = [], []

    def watch(epoch: int, values: Mapping[str, float]) -> None:
        times.append(time.perf_counter())
        losses.append(values["generator"])

    learn(method, pictures.numpy(), watch=watch)
    taken = np.diff(times)[WARM_UP - 1 :]
    return {"seconds": float(np.median(taken)), "losses": losses}


def new_fastflow(backbone: str, settings: Json) -> blemish.FastFlow:
    """FastFlow with the other side's settings."""
    return blemish.FastFlow(
        backbone=backbone, layers=(1, 2, 3), epochs=2, batch_size=settings["flow_batch"], patience=0
    )


def in_both_precisions(steps: Callable[[Json], Json], switch: str, settings: Json) -> Json:
    """What `steps` takes as it is, and with its mixed precision, found under the name `switch`, taken away."""
    found = steps(settings)
    with mock.patch(switch, float32_only):
        plain = steps(settings)
    return {**found, "precision": precision(), "float32_seconds": plain["seconds"]}


def float32_only(device: torch.device) -> torch.autocast:
    """Stands in for `mixed_precision` where nothing is to be mixed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=False)


def precision() -> str:
    """What convolutions train in on this processor."""
    with mixed_precision(torch.device("cpu")):
        return "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"


ROWS = {
    "fastflow-step": fastflow_step,
    "fastflow-epoch": fastflow_epoch,
    "efficientad-step": efficientad_step,
    "ganomaly-step": ganomaly_step,
}
