"""The rows of what learns by reconstruction: what the one loop costs, and how long an image takes."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import blemish
from blemish.blocks.synthetic.defects import add_defects
from blemish.data.loading import Inputs, stacked
from blemish.methods.reconstruction import Reconstruction
from blemish.runtimes.torch import TorchRuntime
from blemish.training import learn

STEPS, WARM_UP = 30, 5
"""Training steps of which the median is taken, and those before them that do not count."""
IMAGES = 8
"""Scored one by one, at 256 × 256 pixels; the first two do not count."""

PRODUCT = "mvtec_ad/bottle"
REPAIR: Mapping[str, Any] = {}
"""Arguments of the Cycle-GAN-S whose repairs are measured: the defaults."""

Make = Callable[..., Reconstruction]
METHODS: Mapping[str, Make] = {
    "autoencoder": blemish.AutoEncoder,
    "denoising_autoencoder": blemish.DenoisingAutoEncoder,
    "vae": blemish.VAE,
    "anogan": blemish.AnoGAN,
    "ganomaly": blemish.GANomaly,
    "cyclegan": blemish.CycleGAN,
    "f_anogan": lambda epochs, **arguments: blemish.FAnoGAN(gan_steps=1, encoder_steps=1, **arguments),
}


def loop_autoencoder() -> list[str]:
    """A training step of AutoEncoder in the one loop and in a plain one."""
    return loop_row(blemish.AutoEncoder, 8)


def loop_ganomaly() -> list[str]:
    """A training step of GANomaly in the one loop and in a plain one."""
    return loop_row(blemish.GANomaly, 16)


def loop_row(make: Make, count: int) -> list[str]:
    """Steps on one batch of `count` images, in turn by the one loop and by a plain one, three times."""
    rounds = [(seconds_in_the_loop(make, count), seconds_in_a_plain_loop(make, count)) for _ in range(3)]
    ours, plain = (min(times) for times in zip(*rounds, strict=True))
    note = f"{make.__name__}, {count} images a step; the best of three rounds in turn, median of {STEPS} steps each"
    return [
        f"{1000 * ours:.1f} ms",
        f"{1000 * plain:.1f} ms by a plain loop",
        f"{plain / ours:.2f}",
        "≥ 0.95",
        note,
    ]


def seconds_in_the_loop(make: Make, count: int) -> float:
    """Of one step by `learn`; every epoch is one step."""
    times: list[float] = []
    method = make(epochs=WARM_UP + STEPS, batch_size=count)
    learn(method, images(count), watch=lambda epoch, losses: times.append(time.perf_counter()))
    return float(np.median(np.diff(times)[WARM_UP - 1 :]))


def seconds_in_a_plain_loop(make: Make, count: int) -> float:
    """Of one step of the same network as one writes it by hand."""
    method = make(epochs=1, batch_size=count)
    torch.manual_seed(0)
    method.collect([])
    (pictures,) = method.prepare(torch.from_numpy(images(count)))
    optimizers = method.optimizers()
    times = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        losses = method.training_loss(pictures)
        if isinstance(losses, torch.Tensor):
            assert isinstance(optimizers, torch.optim.Optimizer)
            optimizers.zero_grad()
            losses.backward()
            optimizers.step()
            losses.item()
        else:
            assert isinstance(optimizers, Mapping)
            for name, loss in losses.items():
                optimizers[name].zero_grad()
                moved = optimizers[name].param_groups[0]["params"]
                loss.backward(inputs=moved, retain_graph=True)
            for name, loss in losses.items():
                optimizers[name].step()
                loss.item()
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


def inspect_reconstruction() -> list[str]:
    """Milliseconds per image of every method, by the torch runtime, one image at a time."""
    took = {}
    for name, make in METHODS.items():
        method = make(epochs=1, batch_size=2)
        learn(method, images(2))
        runtime = TorchRuntime(method)
        times = []
        for image in images(IMAGES):
            started = time.perf_counter()
            runtime.predict(image[None])
            times.append(time.perf_counter() - started)
        took[name] = 1000 * statistics.median(times[2:])
    fastest, slowest = min(took, key=took.__getitem__), max(took, key=took.__getitem__)
    note = "256 × 256 pixels, defaults: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in took.items())
    return [
        f"{took[fastest]:.1f} ms ({fastest})",
        f"{took[slowest]:.0f} ms ({slowest})",
        f"{took[slowest] / took[fastest]:.2f}",
        "none",
        note,
    ]


def cyclegan_repairs() -> list[str]:
    """How much of synthetic defects on good test images the translation takes away."""
    data = blemish.open_dataset(Path(os.environ["BLEMISH_DATA"], PRODUCT))
    model = blemish.fit(blemish.CycleGAN(**REPAIR), data.train, preprocess=blemish.Preprocess(), device="cpu")
    method = cast("TorchRuntime", model.runtime).method
    assert isinstance(method, blemish.CycleGAN)
    good = [sample for sample in data.test if sample.label == 0]
    torch.manual_seed(0)
    with torch.inference_mode():
        (clean,) = method.prepare(
            torch.from_numpy(np.concatenate(list(stacked(Inputs(good, model.preprocess), 8))))
        )
        clean = clean.repeat(4, 1, 1, 1)
        defective, _ = add_defects(clean, method.textures())
        distances = [
            float((x - clean).square().sum().sqrt()) for x in (defective, method.to_normal(defective))
        ]
    before, after = distances
    return [
        f"distance {after:.1f}",
        f"{before:.1f} before",
        f"{before / after:.2f}",
        "≥ 1.43 (30 % less)",
        f"Cycle-GAN-S on {PRODUCT}: Euclidean distance of {len(clean)} images with synthetic defects from the clean "
        f"ones, before and after the translation: {100 * (1 - after / before):.0f} % less",
    ]


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Network inputs (count, 3, 256, 256)."""
    return np.random.default_rng(0).normal(size=(count, 3, 256, 256)).astype(np.float32)


ROWS: Mapping[str, Callable[[], list[str]]] = {
    "loop_autoencoder": loop_autoencoder,
    "loop_ganomaly": loop_ganomaly,
    "inspect_reconstruction": inspect_reconstruction,
    "cyclegan_repairs": cyclegan_repairs,
}
