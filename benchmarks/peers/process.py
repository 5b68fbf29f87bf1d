"""How one measurement runs, alike on both sides: its threads, its training steps, its answer as one JSON object."""

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn import functional

Json = dict[str, Any]
GANOMALY_WIDTH, GANOMALY_CODE = 32, 100
"""Channels of the first layer, and numbers of the code, that GANomaly has on both sides."""
WARM_UP = 2
"""Training steps that are not counted: memory is taken and code compiled in them."""


def answer(rows: Mapping[str, Callable[[Json], Json]], packages: Sequence[str]) -> None:
    """Measure the row that the command line names; what libraries print meanwhile goes to stderr."""
    row, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    cv2.setNumThreads(settings["threads"])
    if hasattr(os, "sched_setaffinity"):  # so that whatever decodes images is counted, too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    torch.manual_seed(0)
    with contextlib.redirect_stdout(sys.stderr):
        result = rows[row](settings)
    versions = {**result.get("versions", {}), **{name: version(name) for name in packages}}
    print(json.dumps({**result, "versions": versions}))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def training_step(loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> float:
    """Loss, derivatives, step; returns the loss before the step."""
    loss = loss_of()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def training_steps(loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, settings: Json) -> Json:
    """Median seconds of `steps` training steps, and the losses from the first of the warm-up on."""
    losses, taken = [], []
    for _ in range(WARM_UP + settings["steps"]):
        started = time.perf_counter()
        losses.append(training_step(loss_of, optimizer))
        taken.append(time.perf_counter() - started)
    return {"seconds": statistics.median(taken[WARM_UP:]), "losses": losses}


def convolution_seconds(run: Callable[[], object], times: int = 3) -> float:
    """Of a run, what its convolutions take, their derivatives included; the mean of a few."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(times):
            run()
    spent = [event.self_cpu_time_total for event in profile.key_averages() if "convolution" in event.key]
    return float(sum(spent)) / times / 1e6


def random_maps(count: int) -> list[Tensor]:
    """What stands in for ResNet-18's layers 1 to 3 at 256 pixels: positive, channels unlike, then normalised."""
    generator = torch.Generator().manual_seed(0)
    maps = []
    for channels, side in ((64, 64), (128, 32), (256, 16)):
        scale = torch.rand(channels, 1, 1, generator=generator)
        x = scale * torch.randn(count, channels, side, side, generator=generator).relu()
        maps.append(functional.layer_norm(x, x.shape[1:]))
    return maps


def small_pictures(count: int) -> Tensor:
    """Pictures (count, 3, 64, 64) from -1 to 1: smooth blots, alike on both sides."""
    blots = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return 2 * functional.interpolate(blots, (64, 64), mode="bilinear") - 1


def random_picture() -> Tensor:
    """One picture (1, 3, 256, 256) in [0, 1]."""
    return torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
