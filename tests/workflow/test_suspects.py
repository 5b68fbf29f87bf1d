"""Dirty training data of a tiny product and of the demo: the ranking, copies, the list and the report."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.data.csv_table import read_paths
from blemish.data.images import encode, write_image
from blemish.demo import render_part
from blemish.demo.defects import add_defect
from blemish.errors import DataError, MethodError
from blemish.inspection.suspects import CSV_COLUMNS, CopyGroup, Suspect, Suspects
from blemish.opencv import cv2
from blemish.types import Sample
from report_pages import read
from tiny_product import SMALL, draw_part, normal_samples

GOOD, DEFECTIVE = 36, 4


@pytest.fixture
def dirty(tmp_path: Path) -> list[Sample]:
    """Parts, of which the last four have a blot, each at another place."""
    samples = normal_samples(tmp_path / "parts", GOOD + DEFECTIVE)
    for seed in range(GOOD, GOOD + DEFECTIVE):
        image = draw_part(seed)
        top, left = 4 + 9 * (seed - GOOD), 10 + 11 * (seed - GOOD)
        image[top : top + 10, left : left + 8] += 60
        write_image(samples[seed].path, image)
    return samples


def test_defects_that_hide_each_other_are_first_in_the_ranking(dirty: list[Sample]) -> None:
    found = blemish.suspects(dirty, method="average", preprocess=SMALL)
    assert found.images == len(found.ranking) == GOOD + DEFECTIVE
    first = found.ranking[:DEFECTIVE]
    assert {one.path for one in first} == {sample.path for sample in dirty[GOOD:]}
    assert {one.path for one in first} <= {one.path for one in found.suspected}
    assert [one.z for one in found.ranking] == sorted((one.z for one in found.ranking), reverse=True)
    assert [one.q for one in found.ranking] == sorted(one.q for one in found.ranking)
    assert len(found.listed) == max(6, len(found.suspected))
    assert (found.copies, found.unreadable) == ((), ())
    assert found.how == (
        "Every image was scored by average that learned from the other folds of 5, in two passes."
    )


def test_defects_of_the_demo_are_in_the_first_15_percent(tmp_path: Path) -> None:
    """Among 27 plates, three with defects that can be seen at this size; two of them are alike."""
    kinds = [*["good"] * 27, "missing_feature", "discolouration", "missing_feature"]
    paths = [tmp_path / f"{number:02}.png" for number in range(len(kinds))]
    for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        rng = np.random.default_rng((3, number))
        part = render_part(rng, size=(240, 320))
        write_image(path, part.image if kind == "good" else add_defect(part, kind, rng)[0])
    found = blemish.suspects(
        paths, arguments={"bank_size": 200}, preprocess=blemish.Preprocess(size=(128, 192))
    )
    assert set(paths[27:]) <= {one.path for one in found.ranking[:4]}  # 15 % of 30
    assert set(paths[27:]) <= {one.path for one in found.suspected}
    assert found.copies == ()


def test_copies_and_unreadable_files_are_found_beside_defects(dirty: list[Sample], tmp_path: Path) -> None:
    same = Path(shutil.copy(dirty[3].path, tmp_path / "parts" / "z_same.png"))
    near = tmp_path / "parts" / "z_near.png"
    write_image(near, np.clip(draw_part(5) * 1.03, 0, 255).astype(np.uint8))
    broken = tmp_path / "parts" / "z_broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    samples = [*dirty, *(Sample(path, 0, "train") for path in (same, near, broken))]
    found = blemish.suspects(samples, method="average", preprocess=SMALL)
    assert [group.paths for group in found.copies] == [(dirty[3].path, same), (dirty[5].path, near)]
    assert found.copies[0].correlation is None
    assert (found.copies[1].correlation or 0) > 0.9
    assert [bad.path for bad in found.unreadable] == [broken]
    assert found.images == len(samples)
    assert len(found.ranking) == len(samples) - 2
    text = str(found)
    assert text.startswith(f"{len(samples)} images: {len(found.suspected)} suspected of a defect (q ≤ 0.1), ")
    assert "1 with the same bytes as another, 1 near-copies, 1 unreadable.\n" in text
    assert f"Same bytes: {dirty[3].path}, {same}\n" in text
    found.write_csv(tmp_path / "list.csv")
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text("utf-8-sig").splitlines()))
    reasons = {row["path"]: row["reason"] for row in rows}
    assert reasons[str(same)] == f"same bytes as {dirty[3].path}"
    assert reasons[str(near)] == f"near-copy of {dirty[5].path}"
    assert reasons[str(broken)] == "unreadable"
    assert [row["path"] for row in rows if row["reason"] == "suspected of a defect"] == [
        str(one.path) for one in found.suspected
    ]
    model = blemish.fit(
        "average", samples, preprocess=SMALL, exclude=[row["path"] for row in rows], hold_out_share=0.2
    )
    data = model.manifest.data
    assert (data.learned_from + data.held_out, data.excluded) == (len(samples) - len(rows), len(rows))
    assert f", excluded {len(rows)}.\n" in model.summary()
    assert [str(path) for path in found.to_exclude] == [row["path"] for row in rows]


def test_a_suspected_copy_is_listed_once_with_both_reasons(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    ranking = (Suspect(b, 9.0, 8.0, 0.01), Suspect(a, 1.0, 0.0, 0.9), Suspect(c, 1.0, 0.0, 0.9))
    found = Suspects(ranking=ranking, copies=(CopyGroup((a, b, c), 0.9),), unreadable=(), rate=0.1, how="")
    found.write_csv(tmp_path / "list.csv")
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["path"], row["reason"], row["q"]) for row in rows] == [
        (str(b), f"suspected of a defect; near-copy of {a}", "0.01"),
        (str(c), f"near-copy of {a}", "0.9"),
    ]
    assert found.to_exclude == (b, c)
    assert read_paths(tmp_path / "list.csv", (tmp_path,)) == [b, c]


def test_a_model_is_used_as_it_is(dirty: list[Sample]) -> None:
    model = blemish.fit("average", dirty[:30], preprocess=SMALL)
    found = blemish.suspects(dirty, model=model)
    assert {one.path for one in found.ranking[:DEFECTIVE]} == {sample.path for sample in dirty[GOOD:]}
    with pytest.raises(MethodError, match=r"^method, arguments and preprocess are those of the model\."):
        blemish.suspects(dirty, model=model, method="average")


def test_report_shows_images_heat_maps_and_pairs(dirty: list[Sample], tmp_path: Path) -> None:
    near = tmp_path / "parts" / "<b>&.png"
    write_image(near, np.clip(draw_part(5) * 1.03, 0, 255).astype(np.uint8))
    samples = [*dirty, Sample(near, 0, "train")]
    path = tmp_path / "new" / "suspects.html"
    found = blemish.suspects(samples, method="average", preprocess=SMALL, report=path)
    assert found.report == path
    page = read(path)
    assert "b" not in page.tags[page.tags.index("main") + 8 :]  # the only <b> is that of the head
    assert str(near) in page.text
    shown = [value for name, value in page.attributes if name == "src"]
    assert all(value.startswith("data:image/webp;base64,") for value in shown)
    assert (
        len(shown) == 1 + 2 * len(found.listed) + 3
    )  # scale of colours, heat maps, a pair with its difference
    for one in found.listed:
        assert str(one.path) in page.text
    assert page.text.count("suspected ") >= len(found.suspected)


def test_few_images_and_wrong_arguments_are_refused(dirty: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^Found 4 different images that can be read, but at least 5 are needed"
    ):
        blemish.suspects(dirty[:4], method="average", preprocess=SMALL)
    with pytest.raises(ValueError, match=r"^The rate of false discoveries must be between 0 and 1, got 2\."):
        blemish.suspects(dirty, rate=2)
    with pytest.raises(OSError, match="Is a folder"):
        blemish.suspects(dirty, method="average", report=tmp_path)


def test_near_copies_count_as_one_image_and_are_named(tmp_path: Path) -> None:
    """Files of different bytes and the same pixels."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        data = encode(draw_part(0), ".png", [cv2.IMWRITE_PNG_COMPRESSION, number])
        assert data is not None
        path.write_bytes(data)
    shutil.copy(paths[0], tmp_path / "same.png")
    with pytest.raises(
        DataError,
        match=r"^Found 1 different images that can be read, but at least 5 are needed .* others are copies:\n"
        rf"  Same bytes: {paths[0]}, .*same\.png\n  Near-copies \(correlation 1\.000\): {', '.join(map(str, paths))}\n"
        r"Add images of other parts\.$",
    ):
        blemish.suspects([*paths, tmp_path / "same.png"], method="average", preprocess=SMALL)


def test_constant_images_are_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / f"{level}.png" for level in range(100, 220, 10)]
    for path in paths:
        write_image(path, np.full((64, 64, 3), int(path.stem), np.uint8))
    assert blemish.suspects(paths, method="average", preprocess=SMALL).copies == ()


def test_the_list_has_all_suspected_or_the_first_15_percent() -> None:
    def made(count: int, suspected: int) -> Suspects:
        ranking = tuple(
            Suspect(Path(f"{n}.png"), 1.0, 1.0, 0.01 if n < suspected else 0.5) for n in range(count)
        )
        return Suspects(ranking=ranking, copies=(), unreadable=(), rate=0.1, how="")

    assert [len(made(40, suspected).listed) for suspected in (0, 5, 9)] == [6, 6, 9]
    assert len(str(made(1000, 0)).splitlines()) == 2 + 1 + 1 + 30 + 1
    assert "… and 120 more" in str(made(1000, 0))


def test_no_cell_of_the_list_is_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [Path(name) for name in ("=1+1.png", "+a.png", "-b.png", "@c.png")]
    found = Suspects(
        ranking=tuple(Suspect(name, 1.0, 2.0, 0.01) for name in names[:2]),
        copies=(CopyGroup((names[2], names[3]), 0.99),),
        unreadable=(), rate=0.1, how="",
    )  # fmt: skip
    found.write_csv("list.csv")
    rows = list(csv.reader((tmp_path / "list.csv").read_text("utf-8-sig").splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
