"""Runs: one part of the synthetic product photographed again and again while pose and light drift slowly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.demo.photo import Flaw, Part, View, expose, photograph_flawed, render_part

DRIFT = 0.3
"""Share of the way between two independent views that a run covers."""


def render_run(
    rng: np.random.Generator, images: int, *, size: tuple[int, int] = (480, 640)
) -> Iterator[Part]:
    """Photographs of one part, each with its own sensor noise, in a view that drifts towards another one.

    Args:
        rng: Generator of all variation.
        images: Number of photographs.
        size: Height and width of the images.
    """
    part, other = render_part(rng, size=size), render_part(rng, size=size)
    for number in range(images):
        view = between(part.view, other.view, DRIFT * number / max(1, images - 1))
        photo = photograph_flawed(replace(part, view=view), Flaw())
        noise = rng.standard_normal((*size, 3), np.float32)
        yield replace(part, view=view, noise=noise, photo=photo, image=expose(photo, noise))


def between(first: View, second: View, share: float) -> View:
    """The view at `share` of the way from the first (0) to the second (1)."""

    def mixed(one: NDArray[np.float64] | float, other: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return (1 - share) * np.asarray(one, np.float64) + share * np.asarray(other, np.float64)

    light = mixed(np.array(first.light), np.array(second.light))
    x, y, z = (light / np.linalg.norm(light)).tolist()
    across, down = mixed(np.array(first.gradient), np.array(second.gradient)).tolist()
    return View(
        light=(x, y, z),
        brightness=float(mixed(first.brightness, second.brightness)),
        warmth=float(mixed(first.warmth, second.warmth)),
        gradient=(across, down),
        pose=mixed(first.pose, second.pose),
        blur=float(mixed(first.blur, second.blur)),
    )
