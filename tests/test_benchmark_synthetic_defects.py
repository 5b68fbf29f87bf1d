"""The benchmark that compares settings: held-out normal images, and the same with defects painted on them."""

import subprocess
from pathlib import Path

import pytest
from benchmarks import synthetic_defects
from benchmarks.synthetic_defects import main, paint

import blemish
from blemish.data.images import read_image
from blemish.demo import write_product


def test_images_differ_from_the_normal_ones_only_within_their_masks(tmp_path: Path) -> None:
    write_product(tmp_path / "plate", train=2, test_good=1, per_defect=1, seed=0)
    images = [sample.path for sample in blemish.open_dataset(tmp_path / "plate").train]
    paint(images, tmp_path / "painted")
    test = blemish.open_dataset(tmp_path / "painted").test
    assert (
        [sample.label for sample in test].count(1) == 2 * len(images) == 2 * [s.label for s in test].count(0)
    )
    for sample in test:
        normal = read_image(images[int(sample.path.name[:4])])
        changed = (read_image(sample.path) != normal).any(2)
        if not sample.label:
            assert not changed.any()
            continue
        assert sample.mask_path is not None
        mask = read_image(sample.mask_path)[:, :, 0] > 0
        assert changed.any()
        assert not (changed & ~mask).any()


def test_only_images_that_were_not_learned_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_product(tmp_path / "plate", train=8, test_good=1, per_defect=1, seed=0)
    painted: list[Path] = []

    def watched(images: list[Path], folder: Path) -> None:
        painted.extend(images)
        paint(images, folder)

    monkeypatch.setattr(synthetic_defects, "paint", watched)
    main("variation", tmp_path / "plate", ["--image-size", "64"])
    train = tmp_path / "plate/train/good"
    assert len(painted) == 2, "a quarter of the eight images"
    assert {path.parent.resolve() for path in painted} == {train.resolve()}
    image_auroc, pixel_auroc, *_, method, option, size = capsys.readouterr().out.split()
    assert (method, option, size) == ("variation", "--image-size", "64")
    assert 0 <= float(image_auroc) <= 1
    assert 0 <= float(pixel_auroc) <= 1


def test_a_fit_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    write_product(tmp_path / "plate", train=4, test_good=1, per_defect=1, seed=0)
    with pytest.raises(subprocess.CalledProcessError):
        main("variation", tmp_path / "plate", ["--set", "unheard=1"])
