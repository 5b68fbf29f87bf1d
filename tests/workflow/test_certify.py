"""Certificates: what is proved, the thresholds that follow, the price, and what voids them."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import blemish
from blemish.calibration import Calibration
from blemish.calibration.certificate import Certificate
from blemish.errors import DataError
from blemish.manifest import read_manifest
from blemish.metrics.rates import upper_bound
from blemish.rules import Rules
from blemish.rules.record import Allowance
from blemish.workflow.certify import Judged, certify, prove
from cli_data import draw_part, write

CALIBRATION = Calibration.from_normal(np.linspace(0, 1, 200), np.linspace(0, 1, 200), np.zeros(200), 0.01)


def judged(decisive: Sequence[float], groups: Sequence[int] | None = None) -> Judged:
    numbers = range(len(decisive)) if groups is None else groups
    return Judged(["OK"] * len(decisive), decisive, len(set(numbers)), len(set(numbers)))


def test_the_review_threshold_goes_below_the_score_that_keeps_the_promise() -> None:
    scores = [0.2 + 0.001 * i for i in range(236)]
    calibration, proved = prove(judged(scores), CALIBRATION, 0.02, 0.95)
    assert proved == 0.02
    assert calibration.review_threshold == math.nextafter(scores[1], -math.inf)  # one of 236 may be missed
    assert judged(scores).ok(calibration.lowest_threshold) == 1


def test_the_threshold_is_never_raised() -> None:
    low = CALIBRATION.changed(review_threshold=0.1)
    assert prove(judged([0.5] * 200), low, 0.02, 0.95) == (low, 0.02)
    assert prove(judged([math.inf] * 200), CALIBRATION, 0.02, 0.95) == (CALIBRATION, 0.02)


def test_too_few_defects_prove_what_they_can() -> None:
    calibration, proved = prove(judged([0.3 + 0.01 * i for i in range(30)]), CALIBRATION, 0.02, 0.95)
    assert calibration.review_threshold == math.nextafter(0.3, -math.inf)
    assert proved == pytest.approx(1 - 0.05 ** (1 / 30))


def test_what_rules_let_through_is_missed_whatever_the_threshold() -> None:
    few, many = [-math.inf] + [0.4] * 472, [-math.inf] * 2 + [0.4] * 471
    calibration, proved = prove(judged(few), CALIBRATION, 0.01, 0.95)  # one of 473 may be missed
    assert (calibration.review_threshold, proved) == (math.nextafter(0.4, -math.inf), 0.01)
    assert prove(judged(many), CALIBRATION, 0.01, 0.95) == (CALIBRATION, upper_bound(473, 473, 0.95))
    assert prove(judged([-math.inf, 2.0, 2.0]), CALIBRATION, 0.01, 0.95) == (
        CALIBRATION,
        upper_bound(1, 3, 0.95),
    )


def test_thresholds_can_be_tested_as_they_are() -> None:
    calibration, proved = prove(judged([0.5] * 3 + [2.0] * 97), CALIBRATION, 0.02, 0.95, keep=True)
    assert (calibration, proved) == (CALIBRATION, upper_bound(3, 100, 0.95))


def test_grouped_defects_are_worth_less() -> None:
    scores = [0.2 + 0.001 * i for i in range(236)]
    groups = [i // 2 for i in range(236)]  # 118 parts are too few
    calibration, proved = prove(judged(scores, groups), CALIBRATION, 0.02, 0.95)
    assert calibration.review_threshold == math.nextafter(scores[0], -math.inf)
    assert proved == pytest.approx(1 - 0.05 ** (1 / 118))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.one_of(st.floats(-2, 3), st.sampled_from([math.inf, -math.inf])), min_size=1, max_size=300),
    st.floats(0.005, 0.3),
)
def test_what_is_proved_follows_from_the_number_of_misses(scores: list[float], rate: float) -> None:
    calibration, proved = prove(judged(scores), CALIBRATION, rate, 0.95)
    misses = judged(scores).ok(calibration.lowest_threshold)
    assert upper_bound(misses, len(scores), 0.95) <= max(proved, rate) + 1e-12
    assert calibration.lowest_threshold <= CALIBRATION.lowest_threshold


@pytest.mark.parametrize("passed", [0.0, 0.01])
@pytest.mark.parametrize(("count", "rate"), [(60, 0.05), (149, 0.02), (300, 0.05), (40, 0.02)])
def test_promises_are_broken_no_more_often_than_their_confidence(
    count: int, rate: float, passed: float
) -> None:
    """5000 draws of normal scores, of which rules let a share through whatever its score."""
    random = np.random.default_rng(count)
    draws, broken, kept_broken = 5000, 0, 0
    high = CALIBRATION.changed(image_threshold=-1.0)
    for _ in range(draws):
        scores = np.where(random.random(count) < passed, -np.inf, random.standard_normal(count))
        calibration, proved = prove(judged(scores.tolist()), high, rate, 0.95)
        missed = passed + (1 - passed) * norm.cdf(calibration.lowest_threshold)
        broken += missed > proved and (proved <= rate or not passed)
        kept_broken += (
            passed + (1 - passed) * norm.cdf(-1)
            > prove(judged(scores.tolist()), high, rate, 0.95, keep=True)[1]
        )
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert broken / draws <= limit
    assert kept_broken / draws <= limit


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 normal images in train, 12 other ones, and 30 defective ones of two kinds."""
    root = tmp_path_factory.mktemp("parts")
    for index in range(40):
        write(root / "train" / f"{index}.png", draw_part(index))
    for index in range(12):
        write(root / "good" / f"{index}.png", draw_part(100 + index))
    for index in range(30):
        kind = "spot" if index % 3 else "blot"
        write(root / "bad" / kind / f"{index}.png", draw_part(200 + index, is_defective=True))
    images = sorted((root / "train").iterdir())
    blemish.fit("variation", images, group_by="none").save(root / "model")
    return root


@pytest.fixture
def parts(made_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made_once, tmp_path / "parts"))


def certified(parts: Path, **options: object) -> Certificate:
    good, bad = sorted((parts / "good").iterdir()), sorted((parts / "bad").rglob("*.png"))
    return certify(parts / "model", good, bad, **options)  # type: ignore[arg-type]


def test_a_certificate_is_stored_with_its_price(parts: Path) -> None:
    made = certified(parts)
    manifest = read_manifest(parts / "model")
    assert manifest.certificate == manifest.valid_certificate == made
    assert (made.defects, made.missed, made.good) == (30, 0, 12)
    assert {(kind.name, kind.tested, kind.missed) for kind in made.kinds} == {
        ("spot", 20, 0),
        ("blot", 10, 0),
    }
    assert made.proved == pytest.approx(0.095, abs=5e-4)
    assert not made.holds
    assert "30 of 30 defective images are not OK: at most 9.5 % of such defects are missed" in made.describe()
    assert "it takes 149 independent defective images" in made.describe()
    assert certified(parts, miss_rate=0.1, keep_thresholds=True).use == 2


def test_any_later_change_voids_it(parts: Path) -> None:
    folder = parts / "model"
    certified(parts)
    dust = Rules(allowances=(Allowance(name="dust", where={"area_px_max": 9.0}),))
    changes: list[Callable[[], object]] = [
        lambda: blemish.set_rules(folder, dust),
        lambda: blemish.recalibrate(folder, image=1e3),
        lambda: blemish.recalibrate(folder, pixel=1e3),
        lambda: blemish.recalibrate(folder, review_share=0.5),
    ]
    for number, change in enumerate(changes, start=2):
        change()
        manifest = read_manifest(folder)
        assert manifest.valid_certificate is None
        assert manifest.certificate is not None
        assert "void: something that decides verdicts was changed" in manifest.describe()
        assert certified(parts).use == number
        assert read_manifest(folder).valid_certificate is not None


def test_a_filter_that_hides_defects_is_seen(parts: Path) -> None:
    """A size filter after a threshold was proved: the certificate is void, and a new one counts the misses."""
    certified(parts)
    everything = Rules(allowances=(Allowance(name="all", where={"area_px_max": 1e6}),))
    blemish.set_rules(parts / "model", everything)
    assert read_manifest(parts / "model").valid_certificate is None
    made = certified(parts)
    assert (made.missed, made.proved, made.holds) == (30, 1.0, False)


def test_other_defects_are_used_for_the_first_time(parts: Path) -> None:
    certified(parts)
    others = [write(parts / "more" / f"{i}.png", draw_part(300 + i, is_defective=True)) for i in range(3)]
    assert certify(parts / "model", sorted((parts / "good").iterdir()), others).use == 1


def test_wrong_images_are_refused(parts: Path) -> None:
    good, bad = sorted((parts / "good").iterdir()), sorted((parts / "bad").rglob("*.png"))
    model, learned = parts / "model", sorted((parts / "train").iterdir())
    before = (model / "manifest.json").read_bytes()
    with pytest.raises(
        DataError, match=r"^40 of the normal images were used to fit the model, the first is "
    ):
        certify(model, learned, bad)
    copied = Path(shutil.copy(bad[0], parts / "copy.png"))
    with pytest.raises(DataError, match="is both a normal and a defective image"):
        certify(model, [*good, copied], bad)
    with pytest.raises(DataError, match=r"^There is no defective image to certify with"):
        certify(model, good, [])
    (parts / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        certify(model, good, [*bad, parts / "broken.png"])
    assert (model / "manifest.json").read_bytes() == before


def test_groups_of_folders_count_once(parts: Path) -> None:
    made = certified(parts, group_by="folder")
    assert made.groups == 2
    assert made.defects_worth <= 30
    assert "fewer than three groups" in made.describe()
