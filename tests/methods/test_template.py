import math

import numpy as np
import torch

from blemish.blocks.classical.registration import warp
from blemish.methods.template import Template, matched_brightness, smallest_difference
from brackets import learned, parts, with_defect


def test_with_one_image_and_no_tolerance_the_map_is_the_absolute_difference() -> None:
    image = parts(1)
    method = learned(Template(tolerance=0, match_brightness=False, sigma=0), image)
    other = with_defect(parts(1, seed=1))
    prediction = method(other)
    difference = (other - image).abs().mean(1)
    torch.testing.assert_close(prediction.anomaly_map, difference, atol=2e-5, rtol=0)
    torch.testing.assert_close(prediction.score, difference.amax((1, 2)), atol=2e-5, rtol=0)


def test_the_template_is_the_median_of_aligned_images() -> None:
    normal = parts(9)
    shifts = torch.tensor([[0.0, y, x] for y in (-4, 0, 4) for x in (-6, 0, 6)])
    method = learned(Template(), warp(normal, shifts))
    sharp = parts(9, seed=3).median(0).values
    # Up to a common shift (that of the reference), as sharp as the median of parts that are not shifted.
    commons = [(y, x) for y in (-4, 0, 4) for x in (-6, 0, 6)]
    gaps = [(method.template - sharp.roll(common, (1, 2)))[:, 8:-8, 8:-8].abs().max() for common in commons]
    assert min(gaps) < 0.065
    assert (warp(normal, shifts).median(0).values - sharp).abs().max() > 0.22


def test_a_moved_part_is_registered_and_the_map_is_in_the_images_pixels() -> None:
    method = learned(Template(), parts(9))
    motion = torch.tensor([[0.1, -5.0, 4.0]])
    normal = warp(parts(1, seed=8), motion)
    defective = normal.clone()
    defective[:, :, 50:56, 44:50] += 0.22
    assert method(normal).score < 0.5 * method(defective).score
    peak = int(method(defective).anomaly_map[0].argmax())
    assert abs(peak // 64 - 52.5) < 2
    assert abs(peak % 64 - 46.5) < 2


def test_smallest_difference_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    image, template = rng.normal(size=(2, 3, 6, 7))
    expected = np.empty((6, 7))
    for y, x in np.ndindex(6, 7):
        near = [(min(max(y + j, 0), 5), min(max(x + i, 0), 6)) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        expected[y, x] = min(np.abs(image[:, y, x] - template[:, j, i]).mean() for j, i in near)
    found = smallest_difference(torch.from_numpy(image)[None], torch.from_numpy(template)[None], 1)
    np.testing.assert_allclose(found[0].numpy(), expected)


def test_matching_brightness_keeps_the_defect() -> None:
    template = parts(1)
    darker = 0.8 * template - 0.02
    everywhere = torch.ones(1, 64, 64, dtype=torch.bool)
    torch.testing.assert_close(
        matched_brightness(darker, template, everywhere), template, atol=0.0045, rtol=0
    )
    defective = with_defect(darker)
    defect = (matched_brightness(defective, template, everywhere) - template).abs().mean(1)[0]
    assert defect[40:50, 40:50].mean() > 0.9 * 0.22
    assert defect[:40].mean() < 0.05 * 0.22


def test_rotations_are_registered_up_to_the_largest_angle() -> None:
    normal = parts(9)
    turned = warp(parts(1, seed=8), torch.tensor([[math.radians(20), 0.0, 0.0]]))
    few, many = (learned(Template(largest_angle=angle), normal)(turned).score for angle in (10.0, 25.0))
    assert many < 0.5 * few
