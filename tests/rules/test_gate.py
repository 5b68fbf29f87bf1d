"""INVALID: images that the gate refuses, parts that are not found; zones follow a part that moved."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.camera.alignment import Reference
from blemish.camera.quality import QualityLimits, measure_quality
from blemish.data.images import write_image
from blemish.data.mask_runs import MaskRuns
from blemish.errors import DataError
from blemish.inspection.result import Inspection
from blemish.inspection.verdict import Judge
from blemish.rules import Rules, read_rules
from blemish.rules.gate import Alignment, Gate
from blemish.rules.record import Rule, Zone
from blemish.types import Image

CALIBRATION = Calibration.from_normal([1.0, 2.0], [1.0, 2.0], [0.0, 0.0], 0.5)


def noisy(seed: int) -> Image:
    return np.random.default_rng(seed).integers(80, 160, (60, 80, 3)).astype(np.uint8)


GATE = Gate(limits=QualityLimits.from_normal(measure_quality(noisy(seed)) for seed in range(9)))


def judged(rules: Rules, image: Image, previous: str | None = None) -> Inspection:
    anomaly_map = np.zeros(image.shape[:2], np.float32)
    return Judge(CALIBRATION, rules).judge(0.5, anomaly_map, image, None, previous)


def test_a_good_image_is_judged() -> None:
    found = judged(Rules(gate=GATE), noisy(50))
    assert (found.verdict, found.reasons) == ("OK", ())


def test_a_blurred_image_is_invalid() -> None:
    found = judged(Rules(gate=GATE), np.asarray(cv2.GaussianBlur(noisy(50), (0, 0), 4), np.uint8))
    assert (found.verdict, [reason.code for reason in found.reasons]) == ("INVALID", ["focus"])
    assert found.reason == "the image is blurred: check focus, motion and the lens"
    assert (found.regions, found.severity, found.decisive) == ((), None, np.inf)
    assert found.overlay().shape == (60, 80, 3)


def test_the_same_image_twice_is_invalid() -> None:
    first = judged(Rules(gate=GATE), noisy(50))
    second = judged(Rules(gate=GATE), noisy(50), first.digest)
    assert (first.verdict, [reason.code for reason in second.reasons]) == ("OK", ["frozen"])
    assert judged(Rules(gate=GATE.changed(frozen=False)), noisy(50), first.digest).verdict == "OK"
    assert judged(Rules(gate=GATE), noisy(51), first.digest).verdict == "OK"


def part(shift: tuple[int, int] = (0, 0)) -> Image:
    random = np.random.default_rng(3)
    image = np.full((200, 260, 3), 60, np.uint8)
    for _ in range(50):
        place = random.integers(40, 160, 2) + np.array([30, 0]) + np.array(shift)
        colour = [int(value) for value in random.integers(0, 255, 3)]
        cv2.circle(image, (int(place[0]), int(place[1])), int(random.integers(3, 9)), colour, -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def spot(x: int, y: int) -> NDArray[np.float32]:
    anomaly_map = np.zeros((200, 260), np.float32)
    anomaly_map[y : y + 4, x : x + 4] = 4
    return anomaly_map


@pytest.mark.parametrize("method", ["features", "phase"])
@pytest.mark.parametrize("as_mask", [False, True])
def test_zones_follow_the_part(method: str, as_mask: bool) -> None:
    drawn = np.zeros((200, 260), np.bool_)
    drawn[50:70, 60:90] = True
    corners = ((60.0, 50.0), (89.0, 50.0), (89.0, 69.0), (60.0, 69.0))
    zone = Zone(name="seal", pixels=MaskRuns.of(drawn)) if as_mask else Zone(name="seal", polygon=corners)
    rules = Rules(
        alignment=Alignment(reference=Reference.of(part()), method=method),  # type: ignore[arg-type]
        zones=(zone,),
        rules=(
            Rule(name="seal", zones=("seal",), measure="area_px", critical=2.0),
            Rule(name="rest", measure="area_px", major=1000.0),
        ),
    )
    judge = Judge(CALIBRATION, rules)
    for shift in ((0, 0), (14, -9)):
        inside = judge.judge(4.0, spot(70 + shift[0], 58 + shift[1]), part(shift), None)
        outside = judge.judge(4.0, spot(100 + shift[0], 58 + shift[1]), part(shift), None)
        assert (inside.severity, outside.severity) == ("critical", "within_spec")


def test_a_part_that_is_not_found_is_invalid() -> None:
    rules = Rules(alignment=Alignment(reference=Reference.of(part())))
    for image in (np.full((200, 260, 3), 90, np.uint8), part()[:199]):
        found = judged(rules, image)
        assert (found.verdict, found.reason) == ("INVALID", "the part of the reference image was not found")
    strict = Rules(alignment=Alignment(reference=Reference.of(part()), largest_residual_px=1e-6))
    noise = np.random.default_rng(0).integers(-9, 9, (200, 260, 3))
    found = judged(strict, np.clip(part((3, 2)) + noise, 0, 255).astype(np.uint8))
    assert (found.verdict, [reason.code for reason in found.reasons]) == ("INVALID", ["alignment"])


def test_gate_and_alignment_are_read_with_their_images(tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / "good").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "good" / f"{seed}.png"), noisy(seed))
    write_image(tmp_path / "golden.png", part())
    path = tmp_path / "r.toml"
    text = '[gate]\nimages = "good"\ndeviations = 6\n\n[alignment]\nimage = "golden.png"\nmethod = "phase"\n'
    path.write_text(text)
    rules = read_rules(path)
    assert rules.gate is not None
    assert rules.gate.limits is not None
    assert rules.gate.limits.sizes == ((60, 80),)
    assert rules.alignment is not None
    assert rules.alignment.reference == Reference.of(part())
    assert Rules.from_json(rules.model_dump_json()) == rules
    assert rules.describe().splitlines()[:2] == [
        "INVALID: images that the gate refuses.",
        "Zones follow the part (phase).",
    ]
    for old, new, expected in (
        ('"good"', '"absent"', "line 2: gate.images: "),
        ('images = "good"\n', "", "line 1: gate.images must name a folder of normal images"),
        ('"golden.png"', '"absent.png"', "line 6: alignment.image: "),
        ('image = "golden.png"\n', "", "line 5: alignment.image must name a reference image"),
        ('"phase"', '"sift"', 'line 7: alignment.method must be "features" or "phase"'),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DataError) as error:
            read_rules(path)
        assert expected in str(error.value)
